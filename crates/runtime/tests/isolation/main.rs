//! Tests of what guests cannot do: exceed their limits, starve other tenants, or see the data of other tenants.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod canaries;
mod quotas;
mod walls;
