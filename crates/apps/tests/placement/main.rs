//! Placement changes speed, never answers.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `shop` | the example shop: one day of shopping, in every shape, with fresh and with reused instances |
//! | `generated` | functions and values made at random, called in every mode |
//! | `fleet` | an app in one of its shapes: a member for each group, linked as in the product |
//! | `seed`, `random` | where randomness begins, and how to see the same again |

#![allow(clippy::print_stdout, reason = "a test that is run for its seeds and times tells them")]

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod fleet;
mod generated;
mod random;
mod seed;
mod shop;
