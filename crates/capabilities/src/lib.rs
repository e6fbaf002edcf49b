//! The capabilities of components: key-value stores, SQL, configuration, secrets and outbound HTTP.
//!
//! There are two layers. The *engines* ([`kv`], [`sql`], [`outbound`], [`secrets`]) know files and threads and nothing
//! of WebAssembly. The *host functions* ([`host`]) implement WIT interfaces over them for the components that were
//! granted them. An engine does not know its caller; a host function never touches a file. Blocking engines run on
//! threads of their own behind bounded queues, so that a slow disk never stops the executor. One set of engines in a
//! process ([`Engines`]) serves the apps of all tenants, with fair shares of its threads. What belongs to one app is in
//! its [`AppResources`].
//!
//! Invariant: a write is acknowledged after it was synced, and never before.

#![forbid(unsafe_code)]

mod app_files;
mod cache_budget;
mod capabilities;
pub mod data_dir;
mod engines;
mod error;
mod file_copy;
mod grants;
pub mod host;
pub mod kv;
pub mod node_dir;
mod open_files;
pub mod outbound;
mod path_map;
mod pool;
mod private_files;
mod resources;
pub mod schemas;
pub mod secrets;
pub mod sql;
mod storage;
mod store_handle;
mod store_name;
mod threads;
mod watched_folders;

pub use app_files::{AppFiles, OutsideError};
pub use capabilities::Capabilities;
pub use data_dir::{DataDir, DataDirError};
pub use engines::{CapabilityLimits, Engines};
pub use error::CapabilityError;
pub use file_copy::FileCopyError;
pub use grants::{AppGrants, ComponentGrants, GrantedBy};
pub use node_dir::NodeDir;
pub use resources::{AppResources, CandidateFolders, CandidateResources};
pub use storage::{StorageAccount, StorageLoan};
pub use store_name::{InvalidStoreName, check_store_name};
