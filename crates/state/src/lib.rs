//! The durable state of a node: tenants, apps, and their releases with all parts.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`model`] | tenants, apps and deployments as they are stored |
//! | [`node_state`] | the state: its read functions, and its changes, each one durable transaction |
//! | `index` | the in-memory index of tenants and apps |
//! | `tables` | the tables of the database |
//! | [`hosts`] | claims on host names |
//! | [`blobs`] | files named by their digest |
//! | [`error`] | the errors of operations on the state |
//!
//! All functions block, because they read and sync files. Tenants and apps are also kept in memory, so reading them
//! does not wait for the disk. Packages are only in the database file.
//!
//! Invariant: after a crash at any moment, each app has either its previous release or the new one, complete.

#![forbid(unsafe_code)]

pub mod blobs;
pub mod error;
pub mod hosts;
mod index;
pub mod model;
pub mod node_state;
mod tables;

pub use blobs::{BlobError, Blobs, Upload};
pub use error::StateError;
pub use model::{App, Contents, Deployment, References, Secret, Taking, Tenant};
pub use node_state::NodeState;
