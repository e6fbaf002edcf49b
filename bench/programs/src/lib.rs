//! Code shared by the programs of the benchmarks: [`serve_runs`], which serves `GET /run`.
//!
//! The programs are in `src/bin`: a native server, a composition for other hosts, an issuer of certificates. They must
//! not depend on the engine, so that they are built in a minute.
#![forbid(unsafe_code)]

mod runs;

pub use runs::serve_runs;
