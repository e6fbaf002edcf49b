//! Serves apps: starts revisions of apps, loads the apps of many tenants from disk into memory when they are used, and
//! evicts idle apps when too many are in memory or memory is short.
//!
//! A [`Package`] is the set of files of a revision. To make a package, the app is planned, composed and compiled. A
//! started package is a [`Revision`]: mapped code, linked groups and routes. A [`Tenancy`] has tenants and their apps,
//! keeps apps in memory while they are used, and replaces the revision in service. A [`SingleApp`] is a tenancy with
//! one app. A [`member::Member`] is one group of a shape in its own process.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`package`] | the files of a revision, and how they are made from an app and its components' bytes |
//! | [`probing`] | the probed code of groups, which sampled requests run |
//! | [`composition`] | a group's composition, compiled once |
//! | [`revision`] | a started package |
//! | [`app_capabilities`] | the capabilities that an app was granted: stores, secrets, outbound requests |
//! | [`app_data`] | the stores of an app as the admin API shows them |
//! | [`front_gate`] | a front door that can be closed and opened again |
//! | [`group_handler`] | the front door's handlers, implemented with groups of the engine |
//! | [`seams`] | the targets of calls that leave a composition |
//! | [`web_files`], `web_files_error` | the files of a browser group, as the cache stores them |
//! | `web_files_making` | making these files |
//! | `tab_site` | connects a revision to the gateway that serves tabs |
//! | [`tenancy`] | tenants, their apps, and which apps are in memory |
//! | [`single_app`] | the only app of a process, as a tenancy |
//! | [`membership`] | checks that a node file has everything that a group needs |
//! | [`member`] | one group of a shape in its own process |
//! | [`mod@metrics_report`] | metrics as the admin API returns them |
//! | `shipping` | compiling the code of an app that is shipped as one program |
//! | [`shipped_code`] | checking that a shipped program has the code of its app |
//! | [`fair_semaphore`] | permits that are shared fairly among tenants |
//! | [`error`], [`progress`] | why a revision cannot be made, and the steps of making a revision |
//!
//! Invariant: if making or starting a revision fails, the revision in service does not change.

pub mod app_capabilities;
pub mod app_data;
pub mod composition;
pub mod error;
pub mod fair_semaphore;
pub mod front_gate;
pub mod group_handler;
pub mod member;
pub mod membership;
pub mod metrics_report;
pub mod package;
pub mod probing;
pub mod progress;
pub mod revision;
pub mod seams;
pub mod shipped_code;
#[cfg(feature = "compiler")]
pub mod shipping;
pub mod single_app;
mod tab_site;
pub mod tenancy;
pub mod web_files;
mod web_files_error;
#[cfg(feature = "compiler")]
mod web_files_making;

pub use app_capabilities::{AppCapabilities, AppCapabilityError};
pub use app_data::AppData;
pub use error::RevisionError;
pub use front_gate::{FrontGate, GateGoal, GateStop};
pub use group_handler::{AppFront, AppResolver, AppSite, AppSiteLookup, GroupHandler};
pub use metrics_report::{metrics_report, metrics_text};
pub use package::{NewPackage, Package, PackageError, PackageOptions, draft_probed_group, sampling_of};
pub use probing::maker::{ProbedCodeMaker, ProbedGroup, ProbingError};
pub use progress::Progress;
pub use revision::{Revision, StartOptions};
pub use seams::Peers;
pub use single_app::SingleApp;
pub use tenancy::{MemoryBounds, Tenancy, TenancyOptions};
pub use web_files_error::WebFilesError;
