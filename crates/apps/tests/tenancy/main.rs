//! Tests of several tenants behind one front door: the app that a request is for, the apps in memory, and revisions
//! that take over.

#[allow(dead_code, reason = "shared with the other tests of this crate, which use the rest")]
#[path = "../harness/mod.rs"]
mod harness;

mod hosts;
mod loading;
mod takeover;
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod world;
