//! The admin API: who may ask, what is asked, over HTTP on a listener of its own.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`admin`] | what a node must be able to do for its admins |
//! | [`address`] | where the API is reached |
//! | `operations` | what it offers: the table that everything else is made of |
//! | [`openapi`] | that table as a document |
//! | [`server`], `listener` | connections and their limits |
//! | `service`, `given`, `body` | answering a request |
//! | `guard`, [`token`] | who asks |
//! | [`caller`] | what each may ask |
//! | `allowance` | how much of the API tenants' tokens may take |
//! | [`audit`], `refusals` | what was done |
//! | [`client`], `exchange`, [`node_address`] | asking it |
//!
//! This crate does not know how an app is deployed or run: a node implements [`Admin`].
//!
//! Invariants: without a token, a client learns no more than that there is an admin API, and the holder of a tenant's nothing of
//! other tenants; tokens and values of secrets are in no log; nothing changes that the audit log does not tell of.

#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
mod allowance;
pub mod audit;
mod body;
pub mod caller;
pub mod client;
mod connections;
mod exchange;
mod given;
mod guard;
mod listener;
pub mod node_address;
pub mod openapi;
mod operations;
mod refusals;
pub mod server;
mod service;
pub mod token;

pub use address::{AdminAddress, InvalidAddress};
pub use admin::{Admin, Body, LogLines, Reply};
pub use audit::{AUDIT_FILE, AuditError, AuditLog};
pub use caller::Caller;
pub use client::{Client, ClientError};
pub use listener::{AdminSocket, ListenError};
pub use node_address::NodeAddress;
pub use operations::BLOB_BYTES_MAX;
pub use server::{AdminLimits, AdminServer, AdminService};
pub use token::{TOKEN_FILE, Token, TokenError};
