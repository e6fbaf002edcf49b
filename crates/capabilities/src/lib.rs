//! What the platform gives to components: key-value stores, SQL, configuration, secrets and outbound HTTP.
//!
//! Two layers. The *engines* ([`kv`]) know files and threads and nothing of WebAssembly; the *host
//! bindings* implement WIT interfaces over them for the guests that a grant names. An engine never asks
//! who calls; a binding never touches a file. Synchronous engines run on threads of their own behind bounded queues, so
//! that a slow disk never stops the executor.
//!
//! The invariant to keep: a write is acknowledged after it has been synced, and never before.

pub mod data_dir;
pub mod kv;
pub mod sql;
mod store_name;
mod workers;

pub use data_dir::{DataDir, DataDirError};
pub use store_name::{InvalidStoreName, check_store_name};
