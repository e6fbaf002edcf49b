//! Tests of composition: refused groups, different definitions of an interface, and names of functions in backtraces.

mod support;

use std::error::Error;
use std::sync::Arc;

use isomer_seam::{SeamError, compose};
use support::{ALLOCATOR, component, components, group, shared};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, WasmBacktrace};

/// Returns a component that calls the function `f` of a host interface in the version `version`.
fn caller(version: &str, interface: &str, flat: &str, arguments: &str) -> Arc<[u8]> {
    let wit = format!(
        "world w {{ import host:it/i@{version}; export out; }} interface out {{ g: func(); }}
         package host:it@{version} {{ interface i {{ {interface} }} }}"
    );
    let module = format!(
        r#"(module (import "host:it/i@{version}" "f" (func $f {flat})) {ALLOCATOR}
            (func (export "test:app/out#g") (call $f {arguments})))"#
    );
    component("0.2.6", &wit, &module)
}

const NARROW: (&str, &str, &str) = ("record r { a: u32 } f: func(r: r);", "(param i32)", "(i32.const 1)");
const WIDE: (&str, &str, &str) =
    ("record r { a: u32, b: u32 } f: func(r: r);", "(param i32 i32)", "(i32.const 1) (i32.const 2)");

fn two_views(left: &str, right: &str) -> Result<Vec<String>, SeamError> {
    let mut group = group(&["a", "b"], &[], &[]);
    shared(&mut group, "a", &format!("host:it/i@{left}"));
    shared(&mut group, "b", &format!("host:it/i@{right}"));
    let parts = [("a", caller(left, NARROW.0, NARROW.1, NARROW.2)), ("b", caller(right, WIDE.0, WIDE.1, WIDE.2))];
    let composition = compose(&group, &components(&parts))?;
    Ok(composition.imports.into_iter().map(|import| import.name).collect())
}

#[test]
fn contradictory_views_are_imported_separately() {
    assert_eq!(
        two_views("1.0.0", "1.1.0").expect("the conflicting interfaces become two imports"),
        ["host:it/i@1.0.0", "host:it/i@1.1.0"]
    );
    let error = two_views("1.0.0", "1.0.0").expect_err("two interfaces with one name cannot both be imported");
    assert_eq!(
        error.to_string(),
        "the components have contradictory definitions of `host:it/i@1.0.0`, which they share"
    );
    assert!(error.hint().is_some());
}

#[test]
fn compatible_views_are_merged_under_the_highest_version() {
    let versions = ["1.2.0", "1.10.0", "1.9.0"];
    let names = ["a", "b", "c"];
    let mut group = group(&names, &[], &[]);
    let mut parts = vec![];
    for (part, version) in names.iter().zip(versions) {
        shared(&mut group, part, &format!("host:it/i@{version}"));
        parts.push((*part, caller(version, NARROW.0, NARROW.1, NARROW.2)));
    }
    let composition = compose(&group, &components(&parts)).expect("the group composes");
    let imports: Vec<_> = composition.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(imports, ["host:it/i@1.10.0"]);
}

fn callee(function: &str) -> Arc<[u8]> {
    let wit = format!("world w {{ export in; }} interface in {{ {function}: func(); }}");
    let module = format!(
        r#"(module {ALLOCATOR} (func $deep_inside unreachable)
            (func $on_the_way (export "test:app/in#{function}") (call $deep_inside)))"#
    );
    component("0.2.6", &wit, &module)
}

fn passing_on() -> Arc<[u8]> {
    let wit = "world w { import in; export out; } interface in { f: func(); } interface out { g: func(); }";
    let module = format!(
        r#"(module (import "test:app/in" "f" (func $f)) {ALLOCATOR}
            (func $at_the_gate (export "test:app/out#g") (call $f)))"#
    );
    component("0.2.6", wit, &module)
}

#[test]
fn components_that_do_not_fit_are_an_error() {
    let link = [("a", "test:app/in", "b", "test:app/in")];
    let parts = components(&[("a", passing_on()), ("b", callee("f")), ("c", callee("h"))]);
    let refusal = |order: &[&str], links: &[(&str, &str, &str, &str)]| {
        compose(&group(order, links, &[]), &parts).expect_err("the components do not fit together")
    };

    let error = refusal(&["a", "b"], &link);
    assert_eq!(
        error.to_string(),
        "component `a` imports `test:app/in`, but the plan of the group does not state what provides the interface",
        "the exporter is instantiated after the importer"
    );
    let error = refusal(&["b", "a"], &[]);
    assert!(matches!(error, SeamError::Unmet { .. }), "{error}");
    let error = refusal(&["c", "a"], &[("a", "test:app/in", "c", "test:app/in")]);
    assert_eq!(error.to_string(), "the components of group `test` do not fit together");
    assert!(error.source().expect("the error has the validator's error as its source").to_string().contains('f'));
    let error = refusal(&["b", "x"], &[]);
    assert_eq!(error.to_string(), "the bytes of component `x` are missing");
    let parts = components(&[("a", Arc::from(&b"\0asm\x01\0\0\0"[..])), ("b", callee("f"))]);
    let error = compose(&group(&["b", "a"], &[], &[]), &parts).expect_err("the bytes are not a component");
    assert_eq!(error.to_string(), "component `a` cannot be read");
    assert!(error.hint().is_some(), "the error has no hint, although its cause has one");
}

#[test]
fn backtraces_name_functions_of_both_components() {
    let link = [("a", "test:app/in", "b", "test:app/in")];
    let parts = components(&[("a", passing_on()), ("b", callee("f"))]);
    let composition =
        compose(&group(&["b", "a"], &link, &[("a", "test:app/out")]), &parts).expect("the group composes");
    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let out = instance.get_export_index(&mut store, None, "a-http-handler").expect("the composition has the export");
    let call = instance.get_export_index(&mut store, Some(&out), "g").expect("the export has the function");
    let call = instance.get_typed_func::<(), ()>(&mut store, call).expect("the export is a function of this type");
    let error = call.call(&mut store, ()).expect_err("the call traps");
    let frames = error.downcast_ref::<WasmBacktrace>().expect("the error has a backtrace").frames();
    let named: Vec<_> = frames.iter().filter_map(|frame| frame.func_name()).collect();
    assert_eq!(named, ["deep_inside", "on_the_way", "at_the_gate"]);
}
