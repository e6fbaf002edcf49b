//! The guest toolchain, and building an app's components with it.
//!
//! Owns: finding or installing a Rust compiler for [`TARGET`] ([`GuestToolchain`]), and turning each component's source of
//! a manifest into a file of bytes ([`build_app`]) without doing again what has not changed. Used by the command line and by
//! the project's own tasks. It knows nothing of what the bytes mean: no component is parsed here.
//!
//! Invariant: whatever is installed or built here is put in its place by one rename, so an interruption leaves either the
//! old state or the new one.
#![forbid(unsafe_code)]

mod apt;
mod build;
mod cargo_source;
mod command_source;
mod debian;
mod error;
mod files;
mod guest;
mod inputs;
mod install;
mod process;
mod profile;
mod record;
mod variables;
mod watch;

pub use build::{Built, build_app, build_app_as, clean, missing_sources};
pub use error::{BuildError, PathError, ToolchainError};
pub use guest::{GuestToolchain, Origin, TARGET};
pub use process::{Progress, Reporter, run};
pub use profile::Profile;
pub use watch::{Lookout, WatchSet, watch_paths};
