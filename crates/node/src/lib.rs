//! A node: one process that runs an app. The place where the parts are put together.
//!
//! A [`Package`] is what lies on disk of an app's revision: making one plans, composes and compiles. Starting it gives a
//! [`Revision`]: mapped code, linked groups, routes. A [`Tenancy`] knows tenants and
//! their apps, keeps in memory what is used, and lets one revision take over from another; a [`Node`] is a front door before it.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`package`] | what lies on disk of a revision, and how it is made from an app and its components' bytes |
//! | `composition` | a group's composition, compiled once |
//! | [`revision`] | from a package to something that serves |
//! | [`tenancy`] | tenants, their apps, and which of these are in memory |
//! | [`host`] | a node of many tenants: its directory, its state, what its admins may ask |
//! | [`deploy`] | from an uploaded release to a revision that serves, so that one whole revision always does |
//! | [`sole`] | the one app of a process, as a tenancy |
//! | [`seams`] | where calls lead that leave a composition |
//! | `notes` | what is to be done with data, written down before it is begun |
//! | [`parts`] | what the platform gives an app: stores, secrets, ways out, by its grants |
//! | `places` | places for work that tenants ask for, shared fairly |
//! | [`listening`] | the front door of a node that hosts apps: listeners, certificates, limits |
//! | [`member`] | one group of a shape in a process of its own |
//! | [`membership`] | whether a node file says what a group needs |
//! | [`node`] | the running process: front door, stopping |
//!
//! Invariant: a revision that cannot be made changes nothing of the one that serves.

mod composition;
pub mod deploy;
pub mod host;
pub mod listening;
pub mod member;
pub mod membership;
pub mod node;
mod notes;
pub mod package;
pub mod parts;
mod places;
pub mod revision;
pub mod seams;
pub mod sole;
pub mod tenancy;

pub use node::{Node, NodeError, NodeOptions};
pub use package::{Made, MakeOptions, Package, PackageError};
pub use parts::{Parts, PartsError};
pub use revision::{Revision, RevisionError, StartOptions, Step};
pub use seams::Peers;
pub use sole::SoleApp;
pub use tenancy::{MemoryBounds, Tenancy, TenancyOptions};
