//! What a node keeps about itself, so that it comes back as it was: tenants, apps, revisions and the parts that they are made of.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`model`] | tenants, apps and revisions as they are kept |
//! | [`node_state`] | the state: reading it, and every change of it, each one durable transaction |
//! | `index` | the tenants and apps in memory |
//! | `tables` | how it lies in its file |
//! | [`hosts`] | which host names keep others out |
//! | [`blobs`] | bytes by their digest, in files |
//! | [`error`] | why something cannot be changed or read |
//!
//! All functions block: they read and sync files. What is in memory (tenants and apps, not packages) is read without waiting for them.
//!
//! Invariant: after a crash at any moment, each app has the revision that it had before or the one that replaces it, whole.

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
