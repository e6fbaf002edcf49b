//! Serving apps: from an app's components to a revision that answers requests, and from many tenants' apps to the few
//! that are in memory.
//!
//! A [`Package`] is the files of an app's revision: making one plans, composes and compiles. Starting it gives
//! a [`Revision`]: mapped code, linked groups, routes. A [`Tenancy`] has tenants and their apps, keeps in memory what
//! is used, and lets one revision take over from another. A [`SingleApp`] is a tenancy with one app, and a
//! [`member::Member`] is one group of a shape in a process of its own.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`package`] | the files of a revision, and how they are made from an app and its components' bytes |
//! | [`composition`] | a group's composition, compiled once |
//! | [`revision`] | a started package |
//! | [`app_capabilities`] | what the platform gives an app by its grants: stores, secrets, outbound requests |
//! | [`group_handler`] | groups of the engine as handlers of the front door |
//! | [`seams`] | where calls lead that leave a composition |
//! | [`tenancy`] | tenants, their apps, and which of these are in memory |
//! | [`single_app`] | the only app of a process, as a tenancy |
//! | [`membership`] | whether a node file has what a group needs |
//! | [`member`] | one group of a shape in a process of its own |
//! | [`fair_semaphore`] | permits for work that tenants ask for, shared fairly |
//! | [`error`], [`progress`] | why a revision cannot be made, and the steps on the way |
//!
//! Invariant: a revision that cannot be made changes nothing of the one that serves.

pub mod app_capabilities;
pub mod composition;
pub mod error;
pub mod fair_semaphore;
pub mod group_handler;
pub mod member;
pub mod membership;
pub mod package;
pub mod progress;
pub mod revision;
pub mod seams;
pub mod single_app;
pub mod tenancy;

pub use app_capabilities::{AppCapabilities, AppCapabilityError};
pub use error::RevisionError;
pub use group_handler::{AppFront, AppResolver, AppSite, AppSiteLookup, GroupHandler};
pub use package::{NewPackage, Package, PackageError, PackageOptions};
pub use progress::Progress;
pub use revision::{Revision, StartOptions};
pub use seams::Peers;
pub use single_app::SingleApp;
pub use tenancy::{MemoryBounds, Tenancy, TenancyOptions};
