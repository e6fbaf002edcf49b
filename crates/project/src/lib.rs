//! An app on this machine: its folder, its manifest, its built components, and config values from flags and files.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `app_dir` | finding, reading and building an app ([`AppDir`]) |
//! | `wasm_file` | a component in a file without a manifest ([`WasmFile`]) |
//! | `values` | config values and variables from flags, files and `.env` ([`ValueSources`], [`AppValues`]) |
//! | `provenance` | the list of an app's components and crates ([`sbom`]), and the provenance of its build ([`provenance()`]) |
//! | `registry_components` | components from registries, and the lock file |
//! | `release` | packing an app as a release ([`pack_release`]) |
//! | `unpacked` | an app from a registry or an archive, in a folder of its own ([`unpack_app`]) |
//! | `missing_secrets` | the check that secrets have values ([`MissingSecrets`]) |
//! | `own_dir` | the folder in an app's folder that belongs to the platform, and the components of an app that was built elsewhere |
//! | `paths` | paths in messages |
//!
//! This crate depends neither on the engine nor on the node, so `isomer plan` and `isomer build` work without them.

#![forbid(unsafe_code)]

mod app_dir;
mod missing_secrets;
mod own_dir;
mod paths;
mod provenance;
mod registry_components;
mod release;
mod unpacked;
mod values;
mod wasm_file;

pub use app_dir::{AppDir, find_app_dir, is_component, read_components};
pub use missing_secrets::MissingSecrets;
pub use paths::shown;
pub use provenance::{PROVENANCE_PREDICATE, SBOM_PREDICATE, provenance, sbom};
pub use registry_components::{LOCK_FILE, pull_registry_component};
pub use release::{check_no_secrets, pack_release};
pub use unpacked::{open_packed, unpack_app};
pub use values::{AppValues, ENV_FILE, ValueSources, toml_to_json};
pub use wasm_file::{WasiVersion, WasmFile};
