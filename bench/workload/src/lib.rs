//! The work that the seam benchmarks give to every way of making a call, and a check that the work was done.
//!
//! A [`Work`] says which call is made, how often, and how many calls run concurrently. The components of the test app
//! and the native programs run the same [`worker`] over the same [`answers`], so that only the way of a call differs.
//! Every result is added to a checksum; [`expected`] computes the same checksum without any seam.
//!
//! This crate must not know how a call is made: each [`Callee`] does.
#![forbid(unsafe_code)]

pub mod answers;
mod run;
mod work;

pub use run::{Callee, Digest, Outcome, expected, worker};
pub use work::{Mode, What, Work};
