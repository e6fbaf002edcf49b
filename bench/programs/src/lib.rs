//! What the benchmarks' programs share: [`serve_runs`], the answer to `GET /run`.
//!
//! The programs themselves are in `src/bin`: a native server, a composition for other hosts. Must not know the engine, so that
//! they are built in a minute.
#![forbid(unsafe_code)]

mod runs;

pub use runs::serve_runs;
