//! The capabilities of components: key-value stores, SQL, configuration, secrets and outbound HTTP.
//!
//! There are two layers. The *engines* ([`kv`], [`sql`], [`outbound`], [`secrets`]) use files and threads, and do not
//! depend on WebAssembly. The *host functions* ([`host`]) use the engines to implement WIT interfaces. An engine does
//! not know which component calls it; a host function never uses a file. Engines that block use their own threads with
//! bounded queues, so that a slow disk never blocks the asynchronous executor. One set of engines per process
//! ([`Engines`]) serves the apps of all tenants, and shares its threads fairly among them. The folders and accounts of
//! one app are in its [`AppResources`].
//!
//! Invariant: a write is acknowledged only after it was synced.

#![forbid(unsafe_code)]

mod app_files;
mod app_origin;
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
mod session_key;
pub mod sql;
mod storage;
mod store_handle;
mod store_name;
mod stored_files;
mod threads;
mod watched_folders;

pub use app_files::{AppFiles, OutsideError};
pub use app_origin::AppOrigin;
pub use capabilities::{Capabilities, read_secrets};
pub use data_dir::{DataDir, DataDirError};
pub use engines::{CapabilityLimits, Engines};
pub use error::CapabilityError;
pub use file_copy::FileCopyError;
pub use grants::{AppGrants, ComponentGrants, GrantedBy};
pub use node_dir::NodeDir;
pub use resources::{AppResources, CandidateFolders, CandidateResources, SESSION_KEY_FILE};
pub use session_key::{SESSION_KEY_BYTES, open_session_key};
pub use storage::{StorageAccount, StorageLoan};
pub use store_name::{InvalidStoreName, check_store_name};
pub use stored_files::StoredFiles;
