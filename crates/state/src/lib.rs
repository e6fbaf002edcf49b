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
//! | [`error`] | the errors of reading and changing the state |
//!
//! All functions block: they read and sync files. Tenants and apps are also kept in memory, so reading them does not
//! wait for the disk. Packages are only in the file.
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
