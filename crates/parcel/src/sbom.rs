//! A list of the components of an app and of the crates in them, in the format CycloneDX 1.6.
//!
//! The crates of a component come from its bytes, if it was built with `cargo auditable`, or from the lock file of its
//! sources. The list contains neither times nor paths, so the same inputs always give the same list.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use isomer_api::Release;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasmparser::{Parser, Payload};

use crate::artifact::{AppArtifact, ArtifactError};

/// The media type of the list.
pub const SBOM_TYPE: &str = "application/vnd.cyclonedx+json";

/// The custom section in which `cargo auditable` stores the crates of a program.
const AUDITABLE_SECTION: &str = ".dep-v0";

/// The maximum size in bytes of the crates of a program, after decompression.
const AUDITABLE_BYTES_MAX: u64 = 8 << 20;

/// The maximum number of crates of one component.
const PACKAGES_MAX: usize = 20_000;

/// A crate in a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SbomPackage {
    /// The name of the crate.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the crate's file in its registry, if it is known.
    #[serde(default)]
    pub checksum: Option<String>,
    /// The kind of source: `crates.io`, `registry`, `git` or `local`.
    #[serde(default)]
    pub source: String,
}

/// The crates of a component, and the source of this information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentPackages {
    /// The source of the list.
    pub origin: PackageOrigin,
    /// The crates, without duplicates.
    pub packages: Vec<SbomPackage>,
}

/// The source of the list of a component's crates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageOrigin {
    /// The component's bytes contain them.
    Embedded,
    /// They are in the lock file of the component's sources. A lock file also lists crates that are used only to build
    /// or to test.
    LockFile,
}

/// Returns the list of the components of a release. `packages` are the crates of the components whose crates are not
/// embedded, by the component's name.
///
/// # Errors
/// If the app cannot be an artifact.
pub fn cyclonedx(
    name: &str,
    version: &str,
    release: &Release,
    packages: &BTreeMap<String, ComponentPackages>,
) -> Result<String, ArtifactError> {
    let digest = AppArtifact::of(release)?.digest;
    let mut components = Vec::new();
    let mut crates: BTreeMap<String, Value> = BTreeMap::new();
    let mut dependencies = Vec::new();
    for (component, part) in &release.components {
        let found = packages.get(component);
        let origin = match found.map(|found| found.origin) {
            Some(PackageOrigin::Embedded) => "embedded",
            Some(PackageOrigin::LockFile) => "lock file",
            None => "unknown",
        };
        let reference = format!("component:{component}");
        components.push(json!({
            "type": "library",
            "bom-ref": reference,
            "name": component,
            "mime-type": "application/wasm",
            "hashes": [{ "alg": "SHA-256", "content": part.digest.as_str() }],
            "properties": [{ "name": "isomer:crates", "value": origin }],
        }));
        let used = found.map(|found| found.packages.as_slice()).unwrap_or_default();
        let mut uses: Vec<String> = used.iter().map(purl).collect();
        for (purl, package) in uses.iter().zip(used) {
            crates.entry(purl.clone()).or_insert_with(|| library(purl, package));
        }
        uses.sort();
        uses.dedup();
        dependencies.push(json!({ "ref": reference, "dependsOn": uses }));
    }
    components.extend(crates.into_values());
    let parts: Vec<String> = release.components.keys().map(|name| format!("component:{name}")).collect();
    dependencies.insert(0, json!({ "ref": "app", "dependsOn": parts }));
    let list = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(digest.as_str()),
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "app",
                "name": name,
                "version": version,
                "hashes": [{ "alg": "SHA-256", "content": digest.as_str() }],
            },
            "tools": { "components": [
                { "type": "application", "name": "isomer", "version": env!("CARGO_PKG_VERSION") },
            ] },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{list:#}\n"))
}

/// Returns the crates that `cargo auditable` has embedded into a component; `None` if there are none, or if they cannot
/// be read.
#[must_use]
pub fn embedded_packages(component: &[u8]) -> Option<ComponentPackages> {
    let mut packages = Vec::new();
    let mut is_found = false;
    let mut left = AUDITABLE_BYTES_MAX;
    // The parser also goes through the modules and components inside of the component.
    for payload in Parser::new(0).parse_all(component) {
        let Payload::CustomSection(section) = payload.ok()? else { continue };
        if section.name() == AUDITABLE_SECTION {
            packages.extend(auditable_packages(section.data(), &mut left)?);
            is_found = true;
            if packages.len() > PACKAGES_MAX {
                return None;
            }
        }
    }
    packages.sort();
    packages.dedup();
    is_found.then_some(ComponentPackages { origin: PackageOrigin::Embedded, packages })
}

/// Returns the crates in one section. `left` is the number of bytes that all further sections may have, without
/// compression.
fn auditable_packages(compressed: &[u8], left: &mut u64) -> Option<Vec<SbomPackage>> {
    #[derive(Deserialize)]
    struct Dependencies {
        packages: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        name: String,
        version: String,
        source: String,
        #[serde(default)]
        kind: Option<String>,
    }
    let mut text = Vec::new();
    ZlibDecoder::new(compressed).take(*left + 1).read_to_end(&mut text).ok()?;
    *left = left.checked_sub(text.len() as u64)?;
    let dependencies: Dependencies = serde_json::from_slice(&text).ok()?;
    let is_used = |dependency: &Dependency| dependency.kind.as_deref() != Some("build");
    let packages =
        dependencies.packages.into_iter().filter(is_used).map(|Dependency { name, version, source, .. }| {
            let source = match source.as_str() {
                "crates.io" | "registry" | "git" | "local" => source,
                // Other sources may be URLs, which could contain credentials.
                _ => "other".to_owned(),
            };
            SbomPackage { name, version, checksum: None, source }
        });
    Some(packages.collect())
}

/// Returns the crates in the text of a `Cargo.lock` on which the package `root` depends, and the package itself.
/// Returns `None` if the text is not a lock file that contains the package.
#[must_use]
pub fn locked_packages(lock: &str, root: &str) -> Option<ComponentPackages> {
    #[derive(Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        source: Option<String>,
        checksum: Option<String>,
        #[serde(default)]
        dependencies: Vec<String>,
    }
    let lock: Lock = toml::from_str(lock).ok()?;
    let find = |wanted: &str| {
        // The formats are `NAME`, `NAME VERSION` and `NAME VERSION (SOURCE)`. Cargo writes the shortest one that is
        // unambiguous.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        lock.package
            .iter()
            .position(|package| package.name == name && version.is_none_or(|version| package.version == version))
    };
    let mut waiting = vec![find(root)?];
    let mut seen = vec![false; lock.package.len()];
    while let Some(at) = waiting.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            waiting.extend(lock.package[at].dependencies.iter().filter_map(|name| find(name)));
        }
    }
    let used = lock.package.iter().zip(seen).filter(|(_, seen)| *seen).map(|(package, _)| SbomPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        checksum: package.checksum.clone(),
        source: source_kind(package.source.as_deref()).to_owned(),
    });
    let mut packages: Vec<_> = used.take(PACKAGES_MAX).collect();
    packages.sort();
    packages.dedup();
    Some(ComponentPackages { origin: PackageOrigin::LockFile, packages })
}

/// Returns the kind of a source. The source itself may contain credentials or a path of the machine.
fn source_kind(source: Option<&str>) -> &'static str {
    match source {
        None => "local",
        Some(source) if source.contains("github.com/rust-lang/crates.io-index") => "crates.io",
        Some(source) if source.starts_with("git+") => "git",
        Some(_) => "registry",
    }
}

fn purl(package: &SbomPackage) -> String {
    let plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes().fold(String::new(), |mut out, byte| {
            match is_plain(byte) {
                true => out.push(char::from(byte)),
                false => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
    };
    format!("pkg:cargo/{}@{}", plain(&package.name), plain(&package.version))
}

fn library(purl: &str, package: &SbomPackage) -> Value {
    let mut library = json!({
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "properties": [{ "name": "isomer:source", "value": package.source }],
    });
    let is_digest = |text: &&String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(checksum) = package.checksum.as_ref().filter(is_digest) {
        library["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    library
}

/// Returns a UUID that is computed from the digest (RFC 9562, version 8).
fn serial_number(digest: &str) -> String {
    let (first, second, third) = (&digest[..8], &digest[8..12], &digest[13..16]);
    format!("urn:uuid:{first}-{second}-8{third}-8{}-{}", &digest[17..20], &digest[20..32])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use isomer_api::ReleasePart;

    use super::*;
    use crate::artifact::sha256;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "cart"
version = "0.1.0"
dependencies = ["serde", "bitflags 2.0.0"]

[[package]]
name = "other"
version = "0.1.0"
dependencies = ["bitflags 1.0.0"]

[[package]]
name = "serde"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
dependencies = ["cart"]

[[package]]
name = "bitflags"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "bitflags"
version = "2.0.0"
source = "git+https://me:hunter2@git.example/bitflags#abc"
"#;

    fn names(found: &ComponentPackages) -> Vec<String> {
        found.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
    }

    /// A component with a core module that has the crates of `cargo auditable`.
    fn auditable(json: &str) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(json.as_bytes()).unwrap();
        let data = encoder.finish().unwrap();
        let mut section = vec![u8::try_from(AUDITABLE_SECTION.len()).unwrap()];
        section.extend_from_slice(AUDITABLE_SECTION.as_bytes());
        section.extend_from_slice(&data);
        let length = |length: usize| {
            // LEB128 in two bytes.
            [u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()]
        };
        let mut module = b"\0asm\x01\0\0\0\0".to_vec();
        module.extend_from_slice(&length(section.len()));
        module.extend_from_slice(&section);
        let mut component = b"\0asm\x0d\0\x01\0\x01".to_vec();
        component.extend_from_slice(&length(module.len()));
        component.extend_from_slice(&module);
        component
    }

    #[test]
    fn crates_come_from_the_lock_file() {
        let found = locked_packages(LOCK, "cart").unwrap();
        assert_eq!(names(&found), ["bitflags 2.0.0", "cart 0.1.0", "serde 1.0.0"]);
        let sources: Vec<_> = found.packages.iter().map(|package| package.source.as_str()).collect();
        assert_eq!(sources, ["git", "local", "crates.io"]);
        assert_eq!(locked_packages(LOCK, "missing"), None);
        assert_eq!(locked_packages("not = [", "cart"), None);
    }

    #[test]
    fn crates_come_from_the_component() {
        let json = r#"{"packages":[{"name":"serde","version":"1.0.0","source":"crates.io"},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
            {"name":"secret","version":"1.0.0","source":"https://me:hunter2@r.example"}]}"#;
        let found = embedded_packages(&auditable(json)).unwrap();
        assert_eq!(
            (names(&found), found.origin),
            (vec!["secret 1.0.0".to_owned(), "serde 1.0.0".to_owned()], PackageOrigin::Embedded)
        );
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(embedded_packages(b"\0asm\x0d\0\x01\0"), None);
        assert_eq!(embedded_packages(b"not wasm"), None);
        assert_eq!(embedded_packages(&auditable("{}")), None);
        // Several sections, which share the limits.
        let sections = |parts: [&str; 3]| {
            let bodies = parts.map(|json| auditable(json)[8..].to_vec()).concat();
            [&b"\0asm\x0d\0\x01\0"[..], &bodies].concat()
        };
        let one = |name: &str, padding: u64| {
            let padding = " ".repeat(usize::try_from(padding).unwrap());
            format!("{{\"packages\":[{{\"name\":\"{name}\",\"version\":\"1.0.0\",\"source\":\"git\"}}]}}{padding}")
        };
        let found = embedded_packages(&sections([&one("a", 0), &one("b", 0), &one("c", 0)])).unwrap();
        assert_eq!(names(&found), ["a 1.0.0", "b 1.0.0", "c 1.0.0"]);
        let large = one("a", AUDITABLE_BYTES_MAX * 3 / 8);
        assert!(embedded_packages(&auditable(&large)).is_some());
        assert_eq!(embedded_packages(&sections([&large, &large, &large])), None);
        // A section that is a thousand times larger after decompression.
        let bomb = format!("{{\"packages\":[]}}{}", " ".repeat(usize::try_from(AUDITABLE_BYTES_MAX).unwrap()));
        assert_eq!(embedded_packages(&auditable(&bomb)), None);
        let whole = auditable(json);
        for length in 0..whole.len() {
            assert!(embedded_packages(&whole[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn the_list_follows_from_its_inputs() {
        let part = ReleasePart { digest: sha256(b"wasm"), bytes: 4 };
        let release = Release {
            manifest: String::new(),
            shape: "monolith".to_owned(),
            components: [("cart".to_owned(), part.clone()), ("web".to_owned(), part)].into(),
            files: BTreeMap::new(),
            folders: std::collections::BTreeSet::new(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        };
        let packages = [("cart".to_owned(), locked_packages(LOCK, "cart").unwrap())].into();
        let text = cyclonedx("shop", "1.0.0", &release, &packages).unwrap();
        assert_eq!(text, cyclonedx("shop", "1.0.0", &release, &packages).unwrap());
        assert!(!text.contains("hunter2") && !text.contains("git.example"));
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["components"].as_array().unwrap().len(), 5);
        assert_eq!(list["dependencies"][0]["dependsOn"], json!(["component:cart", "component:web"]));
        assert_eq!(
            list["dependencies"][1]["dependsOn"],
            json!(["pkg:cargo/bitflags@2.0.0", "pkg:cargo/cart@0.1.0", "pkg:cargo/serde@1.0.0"])
        );
        assert_eq!(list["components"][1]["properties"][0]["value"], "unknown");
        let serial = list["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:00000000-0000-8000-8000-000000000000".len());
    }
}
