//! The alternatives to a node: one process per app, with `wasmtime serve` or with Node.js.

use std::process::Command;

use anyhow::{Context as _, Result};
use isomer_bench_node::Template;

use crate::lab::Lab;
use crate::server::{AddressOutput, Launch};
use xtask::project::find_program;

/// The source of the Node.js server.
const HELLO_JS: &str = include_str!("hello.js");

pub(super) const WASMTIME: &str = "wasmtime serve, a process";
pub(super) const NODE_JS: &str = "Node.js, a process";

/// Returns the launch of `wasmtime serve` with the precompiled component of the given number.
pub(super) fn wasmtime(lab: &Lab, template: &Template, number: u32) -> Result<Launch> {
    let wasm = lab.dir.join(format!("numbered-{number}.wasm"));
    std::fs::write(&wasm, template.component(number)).with_context(|| format!("cannot write `{}`", wasm.display()))?;
    let compiled = lab.precompiled(&wasm)?;
    Ok(lab.wasmtime(WASMTIME, &compiled, &[]))
}

/// Returns the launch of a Node.js server, or `None` if Node.js is not installed.
pub(super) fn node_js(lab: &Lab) -> Result<Option<Launch>> {
    let Some(program) = find_program("node") else { return Ok(None) };
    let script = lab.dir.join("hello.js");
    std::fs::write(&script, HELLO_JS).with_context(|| format!("cannot write `{}`", script.display()))?;
    let mut command = Command::new(program);
    command.arg(script);
    Ok(Some(Launch { name: NODE_JS, address_output: AddressOutput::Stdout, command }))
}
