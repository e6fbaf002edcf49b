//! A node: a server for the apps of many tenants, with its directory, its state, and what its admins may ask.
//!
//! What serves lies below, in `isomer-apps`; this crate administers it. [`Node`] is where to start reading: its fields are what a node has.
//! What is done with them is in `impl Node` blocks, each in the file for its subject.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `node` | the node and what its parts share |
//! | `opening` | opening a node's directory |
//! | `admin` | the admin API's functions, and the tasks that carry them out |
//! | `apps`, `tenants`, `tokens` | administering these |
//! | `deployment` | from an uploaded release to a revision that serves, so that one whole revision always does |
//! | [`compiler`] | child processes that compile what was uploaded |
//! | [`revisions`] | what is kept of revisions on disk |
//! | `repository` | where an app that is not in memory comes from |
//! | `uploads` | what tenants have sent and not deployed yet |
//! | `tenant_resources` | what a tenant's apps share of the disk |
//! | `removals`, `trash` | data that is to be removed |
//! | `replacements`, `suspended_apps` | stores that are half replaced, and the apps that do not serve until they are whole |
//! | `settlement` | recording changes, and those of which it is not known whether they were recorded |
//! | `maintenance` | what the node does every minute and every hour |
//! | `intents` | what is to be done with data, written down before it is begun |
//! | `locks`, `attempts` | what is being changed or deployed now |
//! | [`steps`] | the steps of every change |
//! | `problems` | errors as admins see them |
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
