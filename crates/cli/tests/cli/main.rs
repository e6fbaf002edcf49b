//! The real program: exit code, standard output and standard error, and the responses that it serves.
//!
//! Snapshots have placeholders for what differs from run to run: folders, ports, times. `INSTA_UPDATE=always` writes
//! them again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app_test;
mod apps;
mod calls;
mod dev;
mod doctor;
mod errors;
mod exec;
#[path = "../../../admin/tests/admin/fake.rs"]
mod fake;
mod guides;
mod help;
mod machines;
mod node;
mod processes;
mod remote;
mod serve;
mod support;
mod templates;
mod values;
