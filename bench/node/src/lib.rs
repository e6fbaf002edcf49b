//! A node seen from outside: started as a process, deployed to through its admin API, put under load by many clients,
//! and observed. Benchmarks and the soak share this crate.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`numbered`] | any number of distinct components from one build |
//! | [`bundle`] | an app in the form in which it is deployed |
//! | [`node`] | the process |
//! | [`admin`] | a client of the admin API |
//! | [`http`] | a client of the front door: one connection |
//! | [`load`] | load over many connections and many host names, each response checked |
//! | [`usage`] | the resource usage of a process, from `/proc` |
//! | [`chance`] | pseudo-random numbers that a seed repeats |
//! | [`soak`] | good and hostile tenants for a long time, while apps are deployed |
//!
//! This crate depends on the types of the admin API, and on no other part of the platform.
//!
//! Invariant: a response that was not checked is not counted.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};

pub mod admin;
pub mod bundle;
pub mod chance;
pub mod http;
pub mod load;
pub mod node;
pub mod numbered;
pub mod soak;
pub mod usage;

pub use admin::Admin;
pub use bundle::Bundle;
pub use chance::Chance;
pub use http::{Connection, Response};
pub use load::{Load, Outcome, Target, Until};
pub use node::Node;
pub use numbered::Template;
pub use usage::Usage;

/// Runs a future on this thread.
///
/// # Errors
/// Those of the future, and when the asynchronous runtime cannot be created.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no asynchronous runtime can be had")?.block_on(work)
}
