//! The durable state of a node: tenants, apps, their releases and the parts of these.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`model`] | tenants, apps and deployments as they are stored |
//! | [`node_state`] | the state: reading it, and every change of it, each one durable transaction |
//! | `index` | the tenants and apps in memory |
//! | `tables` | the tables of the database |
//! | [`hosts`] | claims on host names |
//! | [`blobs`] | files named by their digest |
//! | [`error`] | why the state cannot be changed or read |
//!
//! All functions block: they read and sync files. Data in memory (tenants and apps, not packages) is read without
//! waiting for that.
//!
//! Invariant: after a crash at any moment, each app has the release that it had before or the one that replaces it,
//! complete.

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
