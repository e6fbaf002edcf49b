//! Tests of the admin API over real sockets, with a fake node.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod access;
mod audit;
mod bounds;
mod dashboard;
mod document;
mod fake;
mod operations;
mod roles;
mod served;
