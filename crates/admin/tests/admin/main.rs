//! The admin API as it is served and asked: over real sockets, with a node that only remembers what it was asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod audit;
mod bounds;
mod document;
mod fake;
mod questions;
mod roles;
mod served;
