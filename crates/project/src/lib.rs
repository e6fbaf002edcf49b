//! An app on this machine: its folder, its manifest, its built components, and config values from flags and files.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `app_dir` | finding, reading and building an app ([`AppDir`]) |
//! | `wasm_file` | a component in a file without a manifest ([`WasmFile`]) |
//! | `values` | config values and variables from flags, files and `.env` ([`ValueSources`], [`AppValues`]) |
//! | `release` | packing an app as a release ([`pack_release`]) |
//! | `missing_secrets` | the check that secrets have values ([`MissingSecrets`]) |
//! | `paths` | paths in messages |
//!
//! This crate depends neither on the engine nor on the node, so `isomer plan` and `isomer build` work without them.

#![forbid(unsafe_code)]

mod app_dir;
mod missing_secrets;
mod paths;
mod release;
mod values;
mod wasm_file;

pub use app_dir::{AppDir, find_app_dir, is_component, read_components};
pub use missing_secrets::MissingSecrets;
pub use paths::shown;
pub use release::pack_release;
pub use values::{AppValues, ENV_FILE, ValueSources, toml_to_json};
pub use wasm_file::{WasiVersion, WasmFile};
