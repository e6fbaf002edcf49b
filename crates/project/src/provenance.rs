//! Where an app comes from: the list of its components and crates, and the provenance of its build.
//!
//! Neither contains secrets or paths of the machine, so they can be published with the app.

use std::collections::BTreeMap;
use std::path::Path;

use isomer_console::CliError;
use isomer_manifest::ComponentSource;
use isomer_parcel::Contents;
use isomer_parcel::artifact::sha256;
use isomer_parcel::sbom::{ComponentPackages, cyclonedx, embedded_packages, locked_packages};
use isomer_toolchain::{GuestToolchain, component_sources};
use serde_json::{Value, json};

use crate::AppDir;
use crate::registry_components::locked;

/// The predicate type of a statement about the build of an artifact.
pub const PROVENANCE_PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// The predicate type of a statement that contains a list of components.
pub const SBOM_PREDICATE: &str = "https://cyclonedx.org/bom";

/// The type of the build, which defines the parameters in the provenance.
const BUILD_TYPE: &str = "urn:isomer:build:v1";

/// The maximum size of a lock file in bytes.
const LOCK_BYTES_MAX: u64 = 16 << 20;

/// Returns the list of the app's components and their crates, in the format CycloneDX.
///
/// # Errors
/// If the app cannot be an artifact.
pub fn sbom(app: &AppDir, contents: &Contents) -> Result<String, CliError> {
    let mut packages = BTreeMap::new();
    for (name, part) in &contents.release.components {
        let bytes = contents.parts.get(&part.digest);
        let found = bytes.and_then(|bytes| embedded_packages(bytes)).or_else(|| packages_of_lock_file(app, name));
        found.into_iter().for_each(|found| drop(packages.insert(name.clone(), found)));
    }
    Ok(cyclonedx(&app.app.name, &app.app.version.to_string(), &contents.release, &packages)?)
}

/// Returns the crates of a component that was built from a Cargo package in the app's folder.
fn packages_of_lock_file(app: &AppDir, name: &str) -> Option<ComponentPackages> {
    let name = name.parse().ok()?;
    let ComponentSource::Cargo(folder) = &app.app.components.get(&name)?.source.value else { return None };
    let lock = component_sources(&app.dir, &name)?.lock_file?;
    let manifest: toml::Table = toml::from_str(&read(&app.dir.join(folder).join("Cargo.toml"))?).ok()?;
    locked_packages(&read(&lock)?, manifest.get("package")?.get("name")?.as_str()?)
}

fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.len() <= LOCK_BYTES_MAX)?;
    metadata.is_file().then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Returns the provenance of the app's build (SLSA, version 1): the sources, and the programs that built the app from
/// them.
#[must_use]
pub fn provenance(app: &AppDir, contents: &Contents) -> Value {
    let mut sources = Vec::new();
    let mut kinds = serde_json::Map::new();
    let mut needs_toolchain = false;
    for (name, component) in &app.app.components {
        let kind = match &component.source.value {
            ComponentSource::Cargo(_) => "cargo",
            ComponentSource::Wasm(_) => "wasm",
            ComponentSource::Registry(_) => "registry",
            ComponentSource::Command { .. } => "command",
        };
        needs_toolchain |= kind == "cargo";
        kinds.insert(name.to_string(), kind.into());
        if let Some(found) = component_sources(&app.dir, name) {
            sources.push(json!({
                "name": format!("sources of {name}"),
                "digest": { "sha256": found.digest.as_str() },
                "annotations": { "files": found.files },
            }));
        }
    }
    for (name, (reference, digest)) in locked(&app.dir, &app.app) {
        sources.push(json!({
            "name": format!("component {name}"),
            "uri": format!("oci://{}", reference.with_digest(digest.clone())),
            "digest": { "sha256": digest.as_str() },
        }));
    }
    sources.push(json!({
        "name": "isomer.toml",
        "digest": { "sha256": sha256(contents.release.manifest.as_bytes()).as_str() },
    }));
    let mut versions = serde_json::Map::new();
    versions.insert("isomer".to_owned(), env!("CARGO_PKG_VERSION").into());
    let toolchain = needs_toolchain.then(|| GuestToolchain::find().ok()).flatten();
    if let Some(toolchain) = toolchain {
        versions.insert("rustc".to_owned(), toolchain.version().into());
        versions.insert("toolchain".to_owned(), toolchain.origin().name().into());
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "app": app.app.name,
                "version": app.app.version.to_string(),
                "components": kinds,
                "profile": "release",
            },
            "internalParameters": {},
            "resolvedDependencies": sources,
        },
        "runDetails": {
            "builder": { "id": "urn:isomer:local-build", "version": versions },
            "metadata": {},
        },
    })
}
