//! A node: one process that runs an app. The place where the parts are put together.
//!
//! [`build`](revision::Revision::build) turns an app and its components' bytes into a [`Revision`](revision::Revision): plan,
//! composition, compiled code, linked groups, routes. A [`Node`] serves one revision and can be given the next one while it runs.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`revision`] | from bytes to something that serves |
//! | [`parts`] | what the platform gives an app: stores, secrets, ways out, by its grants |
//! | [`node`] | the running process: front door, the revision in service, stopping |
//!
//! Invariant: a revision that cannot be made changes nothing of the one that serves.

pub mod node;
pub mod parts;
pub mod revision;

pub use node::{Node, NodeError, NodeOptions};
pub use parts::{Parts, PartsError};
pub use revision::{Revision, RevisionError, Step};
