//! Tools for keeping data on a disk that may be full, broken, or filled by a hostile tenant.
//!
//! - [`Database`]: a redb database that is opened again after its storage failed.
//! - [`tree`]: measuring and removing folders that a tenant made, with limits on descriptors and memory at any depth.
//! - [`mod@copy`]: copying folders that a tenant made, with limits on descriptors, bytes and time.
//! - [`rename_new`]: renaming a file only if the new name is not in use.
//! - [`Reserve`]: free space that tenants cannot use.
//!
//! This crate must not know what the files mean, or which tenant owns them.

#![forbid(unsafe_code)]

mod backend;
mod copy;
mod database;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod naming;
mod reserve;
pub mod tree;

pub use copy::{STEP_BYTES, copy};
pub use database::{Database, FileStorage, Storage};
pub use naming::rename_new;
pub use reserve::Reserve;
