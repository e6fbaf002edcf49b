//! The WIT packages that components are written against, embedded as text.
//!
//! The crate owns WASI 0.2 and 0.3 as the engine implements them, `wasi:keyvalue`, `wasi:config`, and this project's
//! `isomer:sql` and `isomer:secrets`. It determines which of them an app's worlds use ([`needed`]) and writes them into
//! an app's `wit/deps` ([`write_deps`]). It has no notion of components or manifests.
//!
//! Invariant: the packages are complete; each refers only to packages of the same list.
#![forbid(unsafe_code)]

mod needed;
mod packages;
mod write;

pub use needed::{NeedError, needed};
pub use packages::{WitFile, WitPackage, packages};
pub use write::{WriteError, remove_unneeded, write_deps};
