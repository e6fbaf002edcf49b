//! Code that the benchmarks' programs share: [`serve_runs`], which serves `GET /run`.
//!
//! The programs are in `src/bin`: for example a native server, a program that composes components for other hosts, and
//! one that issues certificates. They must not depend on the engine, so that they are built in a minute.
#![forbid(unsafe_code)]

mod runs;

pub use runs::serve_runs;
