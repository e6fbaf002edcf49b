//! Two lanes for guests, so that a short request never waits for a guest that computes for a long time.
//!
//! | lane | threads | guests |
//! | --- | --- | --- |
//! | fast | the threads of the tokio runtime, which also do all input and output | every guest at first: until one poll takes `FAST_SLICE`, or until its shorter polls take `FAST_TOTAL` within `FAST_WINDOW` |
//! | slow | as many as there are processors, at a lower priority | guests that have computed for longer |
//!
//! A [`MeteredFuture`] is polled in the fast lane, within the task that owns the connection, so no other thread is
//! woken. When the guest has used up its time in the fast lane, its future moves to the slow lane, and the task waits
//! for it. A guest that uses little processor time in the slow lane is *calm*, for example a stream that waits most of
//! the time. The future of a calm guest moves back. An account whose guests often compute for a long time starts in the
//! slow lane (see [`FastLaneCredit`](crate::pool::account::fast_lane::FastLaneCredit)).
//!
//! Guests of an account without limits share the process with no other tenant, so they stay in the fast lane.
//!
//! Three alternatives were rejected. With slices of 5 ms on the runtime's own threads, the p99 latency of a neighbour
//! tenant was 2.7 to 28 times the value without hostile tenants, because a request waits for complete slices. With a
//! thread for every guest, every request needs a wake-up, and there were a quarter fewer requests per second. With
//! `SCHED_IDLE`, a busy machine may keep a thread that holds a lock from running for seconds.

mod meter;
mod metered;
mod priority;
mod queue;
mod slow;
pub(crate) mod watch;

pub(crate) use meter::slice_is_over;
pub(crate) use metered::MeteredFuture;
pub use priority::{lower_priority, prefer_latency};
