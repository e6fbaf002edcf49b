//! The real program: exit code, standard output and standard error, and what it serves.
//!
//! Snapshots have placeholders for what differs from run to run: folders, ports, times. `INSTA_UPDATE=always` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

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
mod rehearsal;
mod remote;
mod serve;
mod support;
mod templates;
mod values;
