//! A node: a server for the apps of many tenants, with its data directory, its state, and the operations of its admin
//! API.
//!
//! This crate administers apps; the crate `isomer-apps`, on which it is based, serves them. Start reading at [`Node`]:
//! its fields are the parts of a node. The operations are `impl Node` blocks, each in the file for its subject.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `node` | the node and the resources that its parts share |
//! | `opening` | opening a node's data directory |
//! | `admin` | the operations of the admin API, and the tasks that run them |
//! | `apps`, `tenants`, `tokens` | administration of apps, tenants and tokens |
//! | `deployment` | from an uploaded release to a revision in service |
//! | [`compiler`] | child processes that compile uploaded releases |
//! | [`revisions`] | the files and records of revisions |
//! | `repository` | the source of apps that are not in memory |
//! | `uploads` | the parts that tenants have uploaded and not deployed yet |
//! | `tenant_resources` | the disk space that a tenant's apps share |
//! | `removals`, `trash` | data that is to be removed |
//! | `replacements`, `suspended_apps` | stores that may be half replaced, and the apps that do not serve until the replacement is finished |
//! | `settlement` | recording changes, and changes with an unknown outcome |
//! | `maintenance` | tasks that the node runs every minute and every hour |
//! | `intents` | planned changes of data, written to disk before they are made |
//! | `locks`, `attempts` | the changes and deployments in progress |
//! | [`steps`] | the steps of every change |
//! | `problems` | errors as the admin API reports them |
//! | [`listeners`] | the front door's listeners, certificates and limits |

mod admin;
mod apps;
mod attempts;
pub mod compiler;
mod deployment;
mod intents;
pub mod listeners;
mod locks;
mod maintenance;
mod node;
mod opening;
mod problems;
mod removals;
mod replacements;
mod repository;
pub mod revisions;
mod settlement;
pub mod steps;
mod suspended_apps;
mod tenant_resources;
mod tenants;
mod tokens;
mod trash;
mod unique_folder;
mod uploads;

pub use node::{Node, NodeError, NodeOptions};
pub use steps::ChangeStep;
