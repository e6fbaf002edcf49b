//! An app as one Wasm file that runs on any WASI host.
//!
//! [`ship`] composes the app's components with *providers*: components that provide what a node provides and a plain host
//! does not (stores, configuration, secrets, logging). The providers are written in Rust, in the workspace `providers/`.
//! This crate contains their sources as text. [`ProviderFiles::find`] uses compiled providers that lie next to the
//! program, as in a release tarball, or compiles them once with the guest toolchain. So no compiled file is in the
//! repository, and a program that Cargo installed works too.
//!
//! The crate decides nothing about imports: that is the plan's task ([`isomer_plan::standalone`]).
#![forbid(unsafe_code)]

mod build;
mod files;
mod provider;
mod settings;
mod sources;

pub use build::ProviderError;
pub use files::ProviderFiles;
pub use settings::{DATA_FOLDER, Migrations};

use isomer_manifest::App;
use isomer_plan::StandalonePlan;
use isomer_seam::{Components, SeamError, Standalone};

/// Composes an app into one component with standard imports.
///
/// # Errors
/// If the components do not fit together.
pub fn ship(
    app: &App,
    plan: &StandalonePlan,
    components: &Components,
    migrations: &Migrations,
    files: ProviderFiles,
) -> Result<Standalone, SeamError> {
    isomer_seam::compose_standalone(plan, components, &settings::providers(app, plan, migrations, files))
}
