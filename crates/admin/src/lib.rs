//! The admin API of a node: its operations over HTTP on a separate listener, and a client.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`app_api`] | the operations that every process with an admin API implements: a node, `isomer run` and `isomer dev` |
//! | [`data_api`] | the operations on the stores and shapes of apps |
//! | [`admin`] | the operations that only a node implements |
//! | [`address`] | the addresses at which a node serves the API |
//! | `operation`, `operations`, `app_operations`, `data_operations` | an operation; the tables of all operations, from which the router, the checks and the OpenAPI document are derived |
//! | [`openapi`] | the OpenAPI document |
//! | [`server`], `listener`, `connection_registry` | connections and their limits |
//! | `service`, `arguments`, `body`, `response` | responding to a request |
//! | `guard`, [`token`] | authentication |
//! | [`caller`], `access_rule` | the authenticated caller, and the operations that a caller may call |
//! | `dashboard_access` | the dashboard: its files, its sessions, and links to it |
//! | `tenant_limits` | limits on requests with tenants' tokens |
//! | [`audit`], `refusals` | the audit log |
//! | [`client`], `client_observation`, `exchange`, [`node_address`] | the client |
//!
//! This crate does not deploy or run apps. A node implements the trait [`Admin`] to do that.
//!
//! Invariants:
//!
//! - Without a token or a session, a client learns only that there is an admin API, and gets the files of the dashboard,
//!   which contain no data.
//! - The holder of a tenant's token learns nothing about other tenants.
//! - No log contains tokens or the values of secrets.
//! - Each change has a line in the audit log before it begins, and one after it has ended.

#![forbid(unsafe_code)]

mod access_rule;
pub mod address;
pub mod admin;
pub mod app_api;
mod app_operations;
mod arguments;
pub mod audit;
mod body;
pub mod caller;
pub mod client;
mod client_observation;
mod connection_registry;
mod dashboard_access;
pub mod data_api;
mod data_operations;
mod exchange;
mod guard;
mod held_body;
mod listener;
pub mod node_address;
pub mod openapi;
mod operation;
mod operations;
mod refusals;
mod reply;
mod response;
pub mod server;
mod service;
mod tenant_limits;
pub mod token;

pub use address::{AdminAddress, InvalidAddress};
pub use admin::{Admin, UploadBody};
pub use app_api::{AdminReply, AppApi, LogLines, MetricsText, NewTraces};
pub use audit::{AUDIT_FILE, AuditError, AuditLog, current_action};
pub use caller::Caller;
pub use client::{Client, ClientError};
pub use dashboard_access::{DashboardLinks, dashboard_link};
pub use data_api::{ShapeApi, StoreApi};
pub use listener::{AdminSocket, ListenError};
pub use node_address::{NodeAddress, URL_FILE, write_url};
pub use operations::BLOB_BYTES_MAX;
pub use server::{AdminLimits, AdminServer, AdminService};
pub use token::{TOKEN_FILE, Token, TokenError};
