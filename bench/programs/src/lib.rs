//! Code of the benchmarks' programs: [`serve_runs`], which serves `GET /run`, and [`TraceLoad`], which simulates
//! requests and records their traces.
//!
//! The programs are in `src/bin`: for example a native server, a program that composes components for other hosts, and
//! one that issues certificates. They must not depend on the engine, so that they are built in a minute.
#![forbid(unsafe_code)]

mod runs;
mod trace_day;

pub use runs::serve_runs;
pub use trace_day::{TraceLoad, TraceTotals};
