//! Finds and installs the guest toolchain, and builds the components of apps.
//!
//! [`GuestToolchain`] is a Rust compiler for [`TARGET`] that is found or installed. [`build_app`] makes a file from
//! each component's source, unless nothing has changed since the last build. The command line and the project's own
//! tasks use this crate. It does not parse components.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `build` | building an app: the list of builders, and which files to watch |
//! | `builder` | the trait `Builder`, with one implementation for each kind of source |
//! | `cargo_builder`, `command_builder`, `file_builder` | the builders |
//! | `cargo` | running Cargo, and finding the components that it made and their inputs |
//! | `inputs`, `record`, `variables`, `profile` | the inputs of a component's last build, so that it is built again only if they have changed |
//! | `sources` | what a component was built from ([`component_sources`]) |
//! | `watch` | the folders that a development server watches |
//! | `guest`, `origin` | finding the guest toolchain |
//! | `install`, `debian`, `apt` | installing the guest toolchain |
//! | `process`, `files`, `error` | running programs, writing files, errors with hints |
//!
//! Invariants:
//! - Everything that is installed or built gets its final name by one rename, so an interruption leaves either the old or the new version.
//! - Building installs nothing. Installing runs nothing as root unless its caller allows it ([`SystemPackages`]).
#![forbid(unsafe_code)]

mod apt;
mod build;
mod builder;
mod cargo;
mod cargo_builder;
mod command_builder;
mod debian;
mod error;
mod file_builder;
mod files;
mod guest;
mod inputs;
mod install;
mod origin;
mod process;
mod profile;
mod record;
mod sources;
mod variables;
mod watch;

pub use build::{build_app, build_app_as, cheapest_profile, clean, missing_sources, watch_paths};
pub use builder::BuiltComponent;
pub use debian::SystemPackages;
pub use error::{BuildError, PathError, ToolchainError};
pub use guest::{GuestToolchain, cache_dir};
pub use origin::{ORIGIN_VARIABLE, TARGET, ToolchainOrigin};
pub use process::{BuildProgress, ProgressReporter, run};
pub use profile::BuildProfile;
pub use sources::{ComponentSources, component_sources};
pub use watch::{WatchFolders, WatchSet};
