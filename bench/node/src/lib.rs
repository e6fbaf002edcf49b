//! A node seen from outside: started as a process, deployed to through its admin API, asked by many clients at once, and watched.
//! Benchmarks and the soak share it.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`numbered`] | any number of components that differ, from one build |
//! | [`bundle`] | an app as it is deployed |
//! | [`node`] | the process |
//! | [`admin`] | a client of the admin API |
//! | [`http`] | a client of the front door: one connection |
//! | [`load`] | many of them: load on many hosts, each answer checked |
//! | [`usage`] | what a process uses, as `/proc` shows it |
//! | [`chance`] | numbers at random that a seed repeats |
//! | [`soak`] | good and hostile tenants for a long while, with deployments going on |
//!
//! This crate does not know the engine nor any other part of the platform: only what the admin API says.
//!
//! Invariant: an answer that was not checked is not counted.

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
pub use http::{Answer, Connection};
pub use load::{Load, Outcome, Target, Until};
pub use node::Node;
pub use numbered::Template;
pub use usage::Usage;

/// Runs what waits for many things at once, on this thread.
///
/// # Errors
/// Those of the work, or when the system gives no event queue.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no asynchronous runtime can be had")?.block_on(work)
}
