//! A node: one process that serves the apps of many tenants, with its data directory, its state, and the operations of
//! its admin API.
//!
//! This crate administers apps. It is based on the crate `isomer-apps`, which serves them. Start reading at [`Node`]:
//! its fields are the parts of a node. The operations are `impl Node` blocks, each in the module for its subject.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `node` | the node and the resources that its parts share |
//! | `opening` | opening a node's data directory |
//! | `admin` | the operations of the admin API, and the tasks that run them |
//! | `app_data` | the stores and the shapes of apps, for the admin API |
//! | `app_traces` | the traces of apps: their stores and tracers |
//! | `apps`, `tenants`, `tokens` | administration of apps, tenants and tokens |
//! | `deployment` | bringing an uploaded release into service |
//! | [`compiler`] | child processes that compile uploaded releases |
//! | [`revisions`] | the files and records of revisions |
//! | `repository` | packages of revisions on disk, and making a package again if it is unusable |
//! | `probed_code` | the code that sampled requests run, compiled when it is needed |
//! | `signatures` | which keys may deploy for which tenant ([`SignaturePolicy`]) |
//! | `uploads` | the parts that each tenant has uploaded but not deployed yet |
//! | `tenant_resources` | the accounts of each tenant's disk space |
//! | `removals`, `trash` | removal of data |
//! | `shape_traffic` | what was measured of each app before it started in its current shape |
//! | `replacements`, `suspended_apps` | interrupted replacements of stores, and the apps that cannot serve because of them |
//! | `reconciliation` | recording changes, and determining unknown outcomes |
//! | `maintenance` | tasks that the node runs every minute and every hour |
//! | `intents` | planned changes of data, written to disk before they start |
//! | `locks`, `attempts` | locks of apps and tenants, and counts of deployments in progress |
//! | [`steps`] | the steps of every change |
//! | `problems` | converting errors to problems of the admin API |
//! | [`listeners`] | the front door's listeners, certificates and limits |

mod admin;
mod app_data;
mod app_traces;
mod apps;
mod attempts;
pub mod compiler;
mod data_leases;
mod deployment;
mod intents;
pub mod listeners;
mod locks;
mod maintenance;
mod node;
mod opening;
mod probed_code;
mod problems;
mod reconciliation;
mod removals;
mod replacements;
mod repository;
pub mod revisions;
mod shape_traffic;
mod signatures;
pub mod steps;
mod suspended_apps;
mod tenant_resources;
mod tenants;
mod tokens;
mod trace_operations;
mod trash;
mod unique_folder;
mod uploads;

pub use node::{Node, NodeError, NodeOptions};
pub use signatures::{SignaturePolicy, SignatureRule};
pub use steps::ChangeStep;
