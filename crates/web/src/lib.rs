//! Components as JavaScript modules, for groups that are placed in a browser.
//!
//! The crate contains no engine and does no I/O. Its functions turn bytes into bytes.
#![forbid(unsafe_code)]

mod transpile;

pub use transpile::{TranspileError, Transpiled, transpile};
