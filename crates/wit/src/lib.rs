//! The WIT packages that components can import, embedded as text.
//!
//! The packages are WASI 0.2 and 0.3 as the engine implements them, `wasi:keyvalue`, `wasi:config`,
//! `wasi:logging`, `wasi:otel`, and this project's
//! `isomer:sql` and `isomer:secrets`. [`needed()`] determines which packages an app's worlds use, and [`write_deps`]
//! writes them into the app's `wit/deps`. The crate knows neither components nor manifests.
//!
//! Invariant: the packages are complete. Each package refers only to embedded packages.
#![forbid(unsafe_code)]

mod needed;
mod packages;
mod write;

pub use needed::{NeedError, needed};
pub use packages::{WitFile, WitPackage, packages};
pub use write::{WriteError, remove_unneeded, write_deps};
