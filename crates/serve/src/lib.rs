//! Serving an app from this machine: the code that `isomer run` and `isomer dev` share.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `context` | options, log and console of a process that serves, and its reports ([`ServeContext`]) |
//! | `admin_endpoint`, `served_app`, `served_data`, `served_manifest`, `served_traces` | the admin API of the process ([`AdminEndpoint`]), and what it shows |
//! | `resources` | resources that another process may already use: the port and the data directory ([`ServeResources`]) |
//! | `revision_source` | the app of a revision, with its components' bytes ([`RevisionSource`]) |
//! | `revision_starter` | starts revisions and reshapes the app ([`AppServer`], [`RevisionStarter`]) |
//! | `serving_loop` | serves an app from its start until the process shuts down ([`serve_app`]) |
//! | `serving`, `store_preparation` | what serves requests; preparing stores before a revision starts |
//! | `reshape_orders` | orders to reshape the app, from the admin API |
//! | `takeover` | the steps in which an arrangement takes over from another one, and what happens if one fails; pure |
//! | `takeover_steps` | executes these steps |
//! | `arrangement` | an arrangement: the running groups of the app |
//! | `local_groups` | an arrangement in this process |
//! | `member_groups` | an arrangement in member processes: the supervisor's side |
//! | `member` | one member's side ([`run_member`]) |
//! | `member_task` | the task of a member, which is the first message of the supervisor |
//! | `health` | the health check of a new arrangement |
//! | `shutdown` | shutting the process down with all arrangements |
//! | `single_group` | one group of a shape, whose other groups run on other machines ([`run_group`]) |
//! | `start_error` | errors of planning or starting an app, with hints |
//! | `network` | the settings for outgoing requests |
//! | `telemetry` | the export of telemetry to a collector |
//! | `test_secrets` | secrets that a test gives an app |
//! | `stop_signals`, `service_manager` | SIGTERM and Ctrl-C; systemd's notifications |
//!
//! The port and the data directory are opened before anything is built, so errors about them are reported immediately.
//! If a client connects before the app is ready, its connection waits under `isomer run`, and its requests get 503
//! under `isomer dev`. A store can be opened only once, so the stores and secrets that a revision has opened are passed
//! to the next revision in the same process. Between processes, stores move: see `takeover`.

#![forbid(unsafe_code)]

mod admin_endpoint;
mod arrangement;
mod context;
mod health;
mod local_groups;
mod member;
mod member_groups;
mod member_metrics;
mod member_task;
pub mod network;
mod reshape_orders;
mod resources;
mod revision_source;
mod revision_starter;
mod served_app;
mod served_data;
mod served_manifest;
mod served_traces;
pub mod service_manager;
mod serving;
mod serving_loop;
mod shutdown;
mod single_group;
mod start_error;
mod stop_signals;
mod store_preparation;
mod takeover;
mod takeover_steps;
mod telemetry;
mod test_secrets;

pub use admin_endpoint::AdminEndpoint;
pub use context::{ServeContext, ServeOptions, TestMode, describe, report_cut_off};
pub use member::run_member;
pub use reshape_orders::{ReshapeOrder, ReshapeOrders};
pub use resources::{ServeResources, data_dir_error, listen_error, open_data};
pub use revision_source::RevisionSource;
pub use revision_starter::{AppServer, RevisionStarter, ServedCode};
pub use serving_loop::serve_app;
pub use single_group::run_group;
pub use start_error::check_shipped_code;
pub use stop_signals::{StopSignal, StopSignals};
pub use store_preparation::{StoreAccess, StorePreparation, UnchangedStores};
pub use telemetry::{AppExport, CollectorInFile, start_export};
pub use test_secrets::apply_test_secrets;
