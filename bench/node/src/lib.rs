//! Treats a node as a black box: starts it as a process, deploys apps through its admin API, puts it under load with
//! many clients, and observes it. Benchmarks and the soak share this crate.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`numbered`] | any number of distinct components from one build |
//! | [`bundle`] | a release with its parts, as a client deploys it |
//! | [`node`] | the process of a node |
//! | [`admin`] | a client of the admin API |
//! | [`http`] | an HTTP client with one connection to the front door |
//! | [`load`] | load over many connections and many host names, each response checked |
//! | [`usage`] | the resource usage of a process, from `/proc` |
//! | [`chance`] | reproducible pseudo-random numbers |
//! | [`soak`] | good and hostile tenants for a long time, while apps are deployed |
//!
//! The only crates of the platform on which this crate depends are those with the types of the admin API.
//!
//! Invariant: every response that is counted was checked.

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

/// Runs a future to completion on the current thread, in a new asynchronous runtime.
///
/// # Errors
/// If the future returns an error, or the asynchronous runtime cannot be created.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot create the asynchronous runtime")?.block_on(work)
}
