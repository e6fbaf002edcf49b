//! The work that the benchmarks of seams give to every way of making a call, and the proof that it was done.
//!
//! A [`Work`] says which call is made, how often and how many at a time. The components of the test app and the native
//! programs beside it run the same [`worker`] over the same [`answers`], so that what differs between them is the way of a
//! call and nothing else. Every answer goes into a checksum; [`expected`] makes the same one without any seam.
//!
//! Must not know how a call is made: that is what each [`Callee`] is for.
#![forbid(unsafe_code)]

pub mod answers;
mod run;
mod work;

pub use run::{Callee, Digest, Outcome, expected, worker};
pub use work::{Mode, What, Work};
