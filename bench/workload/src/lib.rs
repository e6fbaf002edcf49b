//! The work of the seam benchmarks, and a check that the work was done.
//!
//! A [`Work`] defines which function is called, how often, and how many calls run concurrently. Components and native
//! programs run the same [`worker`], which calls the same functions of [`answers`], so that they differ only in how a
//! call is made. Every result is added to a checksum. [`expected`] computes the same checksum without a seam.
//!
//! Only the implementations of [`Callee`] know how a call is made. They are in other crates.
#![forbid(unsafe_code)]

pub mod answers;
mod run;
mod work;

pub use run::{Callee, Digest, Outcome, expected, worker};
pub use work::{Mode, What, Work};
