//! What one would have without a node: a process for each app, with the engine's own server, or with Node.js.

use std::process::Command;

use anyhow::{Context as _, Result};
use isomer_bench_node::Template;

use crate::lab::Lab;
use crate::server::{Launch, Says};
use xtask::project::find_program;

/// The program of the server for Node.js.
const HELLO_JS: &str = include_str!("hello.js");

pub(super) const WASMTIME: &str = "wasmtime serve, a process";
pub(super) const NODE_JS: &str = "Node.js, a process";

/// The engine's own server with the component of this number, compiled before.
pub(super) fn wasmtime(lab: &Lab, template: &Template, number: u32) -> Result<Launch> {
    let wasm = lab.dir.join(format!("numbered-{number}.wasm"));
    std::fs::write(&wasm, template.component(number))
        .with_context(|| format!("`{}` cannot be written", wasm.display()))?;
    let compiled = lab.precompiled(&wasm)?;
    Ok(lab.wasmtime(WASMTIME, &compiled, &[]))
}

/// A server of Node.js; nothing where there is no Node.js.
pub(super) fn node_js(lab: &Lab) -> Result<Option<Launch>> {
    let Some(program) = find_program("node") else { return Ok(None) };
    let script = lab.dir.join("hello.js");
    std::fs::write(&script, HELLO_JS).with_context(|| format!("`{}` cannot be written", script.display()))?;
    let mut command = Command::new(program);
    command.arg(script);
    Ok(Some(Launch { name: NODE_JS, says: Says::Stdout, command }))
}
