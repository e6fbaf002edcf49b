//! Tests that the placement of components never changes results.
//!
//! | file | what it tests or owns |
//! | --- | --- |
//! | `shop` | the example shop in every shape, with new and with reused instances |
//! | `one_file` | the example shop and stores as one Wasm file |
//! | `generated` | random functions and values, called in every mode |
//! | `traces` | one trace of a request in several processes |
//! | `fleet` | an app in one of its shapes: one member for each group, linked as in the product |
//! | `seed`, `random` | the seed of random numbers, and how to repeat a run |

#![allow(clippy::print_stdout, reason = "the seeds and times of a test are printed")]

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod fleet;
mod generated;
mod one_file;
mod random;
mod seed;
mod shop;
mod traces;
