//! `isomer push`: builds an app and pushes it to a registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use isomer_console::{CliError, Console, print};
use isomer_ids::OciReference;
use isomer_manifest::MONOLITH;
use isomer_parcel::Contents;
use isomer_plan::{InterfaceId, InterfaceType};
use isomer_project::{AppDir, pack_release};
use isomer_registry::{Registry, push_app, push_component};
use serde_json::json;

use crate::app_source::{AppSource, ShippedApp};
use crate::remote::node::block_on;
use crate::remote::registry::{RegistryFlags, registry_error};
use crate::signing::{self, Attachments, SignFlag, attach};

/// Build an app and push it to an OCI registry. Only components and files that the registry does not have are uploaded.
#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, the file of an HTTP component, or an app that was
    /// built elsewhere: `oci://registry.example/team/shop:1.4.0`, or an archive (`shop.tar`) [default: the current
    /// folder].
    #[arg(value_name = "APP")]
    path: Option<PathBuf>,
    /// The name and tag of the app in a registry: `registry.example/team/shop:1.4.0`.
    #[arg(value_name = "REFERENCE", required = true)]
    reference: OciReference,
    /// Also push each component as an artifact of its own, with the tag `TAG-component.NAME`, for `isomer add` and for
    /// other tools for WebAssembly.
    #[arg(long)]
    components: bool,
    #[command(flatten)]
    sign: SignFlag,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let key = arguments.sign.key(console)?;
    let path = arguments.path.as_deref().unwrap_or(Path::new("."));
    let (contents, attachments, mut referrers) = match AppSource::parse(path)? {
        AppSource::Path(path) => {
            let (app, contents) = pack(&path, console)?;
            let attachments = Attachments::of_built(&app, &contents)?;
            (contents, attachments, Vec::new())
        }
        AppSource::Archive(path) => {
            let shipped = ShippedApp::read(&path)?;
            let attachments = Attachments::of_shipped(&shipped.contents)?;
            (shipped.contents, attachments, shipped.referrers)
        }
        AppSource::Registry(reference) => {
            let shipped = block_on(ShippedApp::pull(&reference, &arguments.registry, true, console))?;
            let attachments = Attachments::of_shipped(&shipped.contents)?;
            (shipped.contents, attachments, shipped.referrers)
        }
    };
    let reference = &arguments.reference;
    let (pushed, components) = block_on(async {
        let registry = arguments.registry.open(reference).await?;
        let bar = console.upload(contents.parts.values().map(|bytes| bytes.len() as u64).sum());
        let report_sent = |bytes| bar.advance(bytes);
        let pushed = push_app(&registry, reference, &contents, &report_sent).await.map_err(registry_error)?;
        if key.is_some() {
            referrers.extend(signing::referrers(&registry, &pushed.digest).await?);
        }
        let new = attachments.referrers(key.as_ref(), &referrers)?;
        referrers.extend(new);
        attach(&registry, &pushed.descriptor, &referrers).await?;
        let components = match arguments.components {
            true => push_components(&registry, reference, &contents).await?,
            false => Vec::new(),
        };
        Ok((pushed, components))
    })?;
    let pinned = reference.with_digest(pushed.digest.clone());
    if arguments.json {
        let value = json!({
            "reference": reference.to_string(),
            "digest": format!("sha256:{}", pushed.digest),
            "pinned": pinned.to_string(),
            "uploaded": pushed.uploaded,
            "existing": pushed.existing,
            "components": components.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "signed_by": key.map(|key| key.public().id().to_string()),
        });
        return print(&format!("{value:#}\n"));
    }
    let signed = key.map(|key| format!(", signed by {}", key.public().id().short())).unwrap_or_default();
    console.message(&format!("pushed {reference}: {} uploaded, {} existed{signed}", pushed.uploaded, pushed.existing));
    for component in &components {
        console.message(&format!("pushed {component}"));
    }
    print(&format!("{pinned}\n"))
}

/// Pushes each component of an app under a separate tag. Returns the references.
async fn push_components(
    registry: &Registry,
    reference: &OciReference,
    contents: &Contents,
) -> Result<Vec<OciReference>, CliError> {
    let mut pushed = Vec::new();
    for (name, part) in &contents.release.components {
        let Some(wasm) = contents.parts.get(&part.digest) else { continue };
        let tag = format!("{}-component.{name}", reference.tag().unwrap_or_default());
        let too_long = || CliError::usage(format!("`{tag}` is not a tag"), "choose a shorter tag");
        let reference = reference.with_tag(&tag).ok_or_else(too_long)?;
        let ty = isomer_seam::component_type(wasm)?;
        let names = |interfaces: &BTreeMap<InterfaceId, InterfaceType>| -> Vec<String> {
            interfaces.keys().map(ToString::to_string).collect()
        };
        let (exports, imports) = (names(&ty.exports), names(&ty.imports));
        push_component(registry, &reference, wasm, &exports, &imports).await.map_err(registry_error)?;
        pushed.push(reference);
    }
    Ok(pushed)
}

/// Builds and packs an app for every machine: without config values from flags, files and `.env`.
pub(crate) fn pack(path: &Path, console: &Console) -> Result<(AppDir, Contents), CliError> {
    let app = AppDir::open(path)?;
    app.print_warnings(console);
    let components = app.components(console)?;
    // The app is planned before it is pushed, so that mistakes show lines of the manifest file.
    for shape in app.app.shapes.keys().map(String::as_str).filter(|shape| *shape != MONOLITH).chain([MONOLITH]) {
        app.plan(&components, shape)?;
    }
    let contents = pack_release(&app, components, MONOLITH, None)?;
    Ok((app, contents))
}
