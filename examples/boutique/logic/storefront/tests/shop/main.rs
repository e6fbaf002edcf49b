//! Tests the storefront on top of the other logic crates, with its state in memory.

mod support;
mod surface;
mod wrong_input;
