//! Tests that run the `isomer` program and check its exit code, its output, and the responses that it serves.
//!
//! In the snapshots, placeholders replace what differs in each run: folders, ports, times. `INSTA_UPDATE=always`
//! updates the snapshots.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app_test;
mod apps;
mod calls;
mod compiled_code;
mod dev;
#[path = "../../../registry/tests/registry/docker_registry.rs"]
mod docker_registry;
mod doctor;
mod errors;
mod exec;
mod export;
#[path = "../../../admin/tests/admin/fake.rs"]
mod fake;
mod guides;
mod help;
mod machines;
mod node;
mod observed;
mod processes;
mod registry;
mod remote;
mod reshape;
mod reshape_kills;
mod reshape_load;
mod serve;
mod ship_all;
mod ship_exe;
mod ship_wasm;
mod signed_apps;
mod support;
mod templates;
mod unpacked_apps;
mod values;
