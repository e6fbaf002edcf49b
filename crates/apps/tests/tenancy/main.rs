//! Tenants and their apps behind one front door: whose request it is, what is in memory, and what takes over from what.

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod hosts;
mod loading;
mod takeover;
#[allow(clippy::unwrap_used, reason = "what fails there fails the test")]
mod world;
