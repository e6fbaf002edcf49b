//! What the platform gives to components: key-value stores, SQL, configuration, secrets and outbound HTTP.
//!
//! Two layers. The *engines* ([`kv`], [`sql`], [`outbound`], [`secrets`]) know files and threads and nothing of WebAssembly; the *host
//! bindings* implement WIT interfaces over them for the guests that a grant names. An engine never asks
//! who calls; a binding never touches a file. Synchronous engines run on threads of their own behind bounded queues, so
//! that a slow disk never stops the executor.
//!
//! The invariant to keep: a write is acknowledged after it has been synced, and never before.

#![forbid(unsafe_code)]

mod app;
pub mod data_dir;
pub mod host;
pub mod kv;
pub mod node_dir;
pub mod outbound;
pub mod secrets;
pub mod sql;
mod store_name;
mod workers;

pub use app::{Capabilities, CapabilityError, CapabilityLimits};
pub use data_dir::{DataDir, DataDirError};
pub use node_dir::NodeDir;
pub use store_name::{InvalidStoreName, check_store_name};
