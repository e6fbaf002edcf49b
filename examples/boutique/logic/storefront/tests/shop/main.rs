//! Tests of the storefront with the other logic crates as its services. All state is in memory.

mod support;
mod surface;
mod wrong_input;
