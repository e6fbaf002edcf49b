//! What a guest can do to others: nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod canaries;
mod quotas;
mod walls;
