//! Components written as text: HTTP handlers for WASI 0.2 around a core module. They can contain code that no compiler
//! would produce.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// The WIT packages that a handler needs. Each package comes after those that it uses.
const PACKAGES: [&str; 6] = ["wasi-clocks", "wasi-random", "wasi-filesystem", "wasi-sockets", "wasi-cli", "wasi-http"];

/// The version of WASI 0.2.
const P2: &str = "0.2.12";
const P3: &str = "0.3.0";

/// Returns a component whose handler runs `body` and responds with the status in `$status`, which is 200 unless `body`
/// sets it. `fields` are additional definitions in the core module.
pub(crate) fn handler(fields: &str, body: &str) -> Vec<u8> {
    let memory = if fields.contains("(export \"memory\")") { "" } else { "(memory (export \"memory\") 1)" };
    let module = format!(
        r#"(module
            (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
            (import "wasi:http/types@0.2.12" "[method]fields.append"
                (func $append (param i32 i32 i32 i32 i32 i32)))
            (import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
            (import "wasi:http/types@0.2.12" "[method]outgoing-response.set-status-code"
                (func $set-status (param i32 i32) (result i32)))
            (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
                (func $respond (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
            {memory}
            {fields}
            (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
                (local $status i32) (local $made i32) (local $number i32)
                (local.set $status (i32.const 200))
                {body}
                (local.set $made (call $response (call $fields)))
                (drop (call $set-status (local.get $made) (local.get $status)))
                (call $respond (local.get $out) (i32.const 0) (local.get $made)
                    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))"#
    );
    encode(&module, P2, "import wasi:http/types@0.2.12; export wasi:http/incoming-handler@0.2.12;")
}

/// Returns a middleware for WASI 0.2: a component that passes each request to the handler that it imports and returns
/// that handler's response.
pub(crate) fn middleware2() -> Vec<u8> {
    let module = r#"(module
        (import "wasi:http/incoming-handler@0.2.12" "handle" (func $next (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "wasi:http/incoming-handler@0.2.12#handle") (param i32 i32)
            (call $next (local.get 0) (local.get 1))))"#;
    encode(module, P2, "import wasi:http/incoming-handler@0.2.12; export wasi:http/incoming-handler@0.2.12;")
}

/// Returns a middleware for WASI 0.3: a component that passes each request to the handler that it imports and returns
/// that handler's result. The imported function writes its result to the address that it receives, and the middleware
/// returns this address.
pub(crate) fn middleware3() -> Vec<u8> {
    let module = r#"(module
        (import "wasi:http/handler@0.3.0" "handle" (func $next (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "wasi:http/handler@0.3.0#handle") (param i32) (result i32)
            (call $next (local.get 0) (i32.const 64))
            (i32.const 64))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))"#;
    encode(module, P3, "import wasi:http/handler@0.3.0; export wasi:http/handler@0.3.0;")
}

/// Encodes a core module as a component. `world` is the text of the imports and exports of its WIT world.
fn encode(module: &str, version: &str, world: &str) -> Vec<u8> {
    let mut bytes = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    let (resolve, world) = resolved(version, world);
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)
        .expect("the metadata embeds");
    let encoder = ComponentEncoder::default().module(&bytes).expect("the module has metadata").validate(true);
    { encoder }.encode().unwrap_or_else(|error| panic!("{error:#}\n{module}"))
}

/// Encodes the text of a component or a module.
pub(crate) fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns `component` with the component `inner` nested in it and instantiated together with it.
pub(crate) fn with(component: &[u8], inner: &[u8]) -> Vec<u8> {
    // The kinds of sections in a component's binary. A section is a byte for its kind, its length, and its content.
    const COMPONENT: u8 = 4;
    const INSTANCE: u8 = 5;
    let (mut at, mut components) = (8, 0);
    while at < component.len() {
        let (length, bytes) = number(&component[at + 1..]);
        components += u8::from(component[at] == COMPONENT);
        at += 1 + bytes + length;
    }
    let mut whole = component.to_vec();
    whole.push(COMPONENT);
    push_number(&mut whole, inner.len());
    whole.extend_from_slice(inner);
    // The section with one instance of the component that was just added, without arguments.
    whole.extend_from_slice(&[INSTANCE, 4, 1, 0, components, 0]);
    whole
}

/// Decodes a number in LEB128. Returns the number and the length of its encoding in bytes.
fn number(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number ends");
    let digits = bytes[..=end].iter().rev();
    (digits.fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)), end + 1)
}

fn push_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn resolved(version: &str, world: &str) -> (Resolve, wit_parser::WorldId) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/wit");
    let mut resolve = Resolve::default();
    let io = (version == P2).then_some("wasi-io");
    for package in io.into_iter().chain(PACKAGES) {
        let group = UnresolvedPackageGroup::parse_dir(folder.join(format!("{package}-{version}")));
        resolve.push_group(group.expect("the package parses")).expect("the packages that it uses are loaded");
    }
    let own = format!("package test:hostile; world app {{ {world} }}");
    let package = resolve.push_str("hostile.wit", &own).expect("the world parses");
    let world = resolve.select_world(&[package], Some("app")).expect("the package has the world");
    (resolve, world)
}
