//! The app of a shipped program: built from its folder, or built elsewhere.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use isomer_console::{CliError, Console};
use isomer_parcel::Contents;
use isomer_parcel::sbom::SBOM_TYPE;
use isomer_plan::Plan;
use isomer_project::{AppDir, ValueSources, check_no_secrets, is_component, open_packed, pack_release, sbom, shown};
use isomer_registry::ReferrerFilter;
use isomer_seam::Components;

use crate::app_source::{AppSource, ShippedApp};
use crate::remote::node::block_on;
use crate::remote::registry::RegistryFlags;
use crate::user_dirs;

/// The lists of an app's components and crates.
const SBOMS: ReferrerFilter<'static> = ReferrerFilter { artifact_type: Some(SBOM_TYPE), predicate_type: None };

/// An app that is ready to be shipped.
pub(crate) struct PackedApp {
    pub(crate) app: AppDir,
    pub(crate) components: Components,
    pub(crate) contents: Contents,
    /// The list of the app's components and crates.
    pub(crate) sbom: Bytes,
    /// The folder of compiled code, which the next call uses again.
    pub(crate) code_folder: PathBuf,
}

/// Builds the app in its folder, or pulls or reads an app that was built elsewhere, and packs it in `shape`.
///
/// # Errors
/// If there is no such app, if it cannot be built or planned, or if the program would contain the file of a secret.
pub(crate) fn pack_app(
    source: &AppSource,
    shape: &str,
    values: &ValueSources,
    registry: &RegistryFlags,
    console: &Console,
) -> Result<PackedApp, CliError> {
    let packed = match source {
        AppSource::Path(path) => {
            let app = AppDir::open_with(path, values)?;
            print_notes(&app, console);
            let components = app.components(console)?;
            print_warnings(&app.plan(&components, shape)?, &app, console);
            let contents = pack_release(&app, components.clone(), shape, None)?;
            let sbom = sbom(&app, &contents)?.into();
            let of_user = user_dirs::cache().filter(|_| is_component(path)).map(|cache| cache.join("run"));
            let code_folder = of_user.unwrap_or_else(|| app.dir.join(AppDir::OWN_DIR).join("cache"));
            PackedApp { app, components, contents, sbom, code_folder }
        }
        AppSource::Registry(reference) => {
            of_shipped(block_on(ShippedApp::pull(reference, registry, Some(SBOMS), console))?, shape, values, console)?
        }
        AppSource::Archive(path) => of_shipped(ShippedApp::read(path)?, shape, values, console)?,
    };
    check_no_secrets(&packed.app, &packed.contents.release)?;
    Ok(packed)
}

/// Prepares an app that was built elsewhere. Its components are not built again.
fn of_shipped(
    shipped: ShippedApp,
    shape: &str,
    values: &ValueSources,
    console: &Console,
) -> Result<PackedApp, CliError> {
    let ShippedApp { name, mut contents, referrers, .. } = shipped;
    let app = open_packed(&contents, &name, values)?;
    print_notes(&app, console);
    let components = app.components(console)?;
    print_warnings(&app.plan(&components, shape)?, &app, console);
    // The list that was made from the sources knows more crates than the bytes of the components.
    let sbom = match referrers.into_iter().find(|referrer| referrer.artifact_type == SBOM_TYPE) {
        Some(found) => found.content,
        None => sbom(&app, &contents)?.into(),
    };
    contents.release.manifest = app.manifest()?.text().to_owned();
    shape.clone_into(&mut contents.release.shape);
    let cache = user_dirs::cache().context("neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder")?;
    Ok(PackedApp { app, components, contents, sbom, code_folder: cache.join("run") })
}

/// Prints the warnings about the manifest and its values, and which values come from files of variables.
pub(crate) fn print_notes(app: &AppDir, console: &Console) {
    app.print_warnings(console);
    for (key, file) in &app.values.from_variables {
        console.message(&format!("config value {key} comes from {}, and can be read in the shipped file", shown(file)));
    }
}

fn print_warnings(plan: &Plan, app: &AppDir, console: &Console) {
    if !plan.warnings.is_empty() {
        let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.clone().in_source(&app.source)).collect();
        console.message(&console.renderer().diagnostics(&warnings));
    }
}
