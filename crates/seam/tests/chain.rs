//! Tests that a chain of eleven components is planned, composed, instantiated and called.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_ids::ComponentName;
use isomer_manifest::{App, Grants, Shape, Spanned};
use isomer_plan::plan;
use isomer_seam::{ImportOwner, component_type, compose};
use support::{ALLOCATOR, component, components, name};
use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Engine, Store};

const LENGTH: usize = 11;

/// Returns the component with this `index` in the chain. Its function calls the next component, and returns the text of
/// that call and the number of components from this one to the end of the chain. The last component's function returns
/// its argument as the text.
fn link(index: usize) -> Arc<[u8]> {
    let (import, call) = if index + 1 < LENGTH {
        let next = index + 1;
        (
            format!("(import \"test:app/link{next}@0.1.{next}\" \"say\" (func $next (param i32 i32 i32)))"),
            "(call $next (local.get 0) (local.get 1) (i32.const 64))",
        )
    } else {
        (String::new(), "(i32.store (i32.const 64) (local.get 0)) (i32.store (i32.const 68) (local.get 1))")
    };
    let module = format!(
        r#"(module {import}
            (import "test:app/counter" "count" (func $count (result i32)))
            {ALLOCATOR}
            (func (export "test:app/link{index}@0.1.{index}#say") (param i32 i32) (result i32)
                {call}
                (i32.store (i32.const 72) (call $count))
                (i32.const 64)))"#
    );
    let wit = |index: usize| {
        format!(
            "package test:app@0.1.{index} {{ interface link{index} {{ record said {{ text: string, count: u32 }} say: func(text: string) -> said; }} }}"
        )
    };
    let next = if index + 1 < LENGTH { wit(index + 1) } else { String::new() };
    let import = if index + 1 < LENGTH {
        format!("import test:app/link{}@0.1.{};", index + 1, index + 1)
    } else {
        String::new()
    };
    let world = format!(
        "interface counter {{ count: func() -> u32; }} world w {{ import counter; {import} export test:app/link{index}@0.1.{index}; }} {} {next}",
        wit(index)
    );
    component("0.2.6", &world, &module)
}

#[test]
fn a_chain_of_eleven_components_works_as_one() {
    let mut parts: Vec<_> = (0..LENGTH).map(|index| (format!("link{index}"), link(index))).collect();
    // An additional component exports an interface that all eleven components import.
    let counter = component(
        "0.2.6",
        "interface counter { count: func() -> u32; } world w { export counter; }",
        &format!(
            r#"(module {ALLOCATOR} (global $n (mut i32) (i32.const 0))
                (func (export "test:app/counter#count") (result i32)
                    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#
        ),
    );
    parts.push(("counter".to_owned(), counter));
    let parts: Vec<_> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let bytes = components(&parts);
    let types: BTreeMap<ComponentName, _> = bytes
        .iter()
        .map(|(name, bytes)| (name.clone(), component_type(bytes).expect("the component can be read")))
        .collect();

    let mut app = App::single("x.wasm".as_ref(), Grants::default());
    let mut template = app.components.pop_first().expect("the app has one component").1;
    template.routes.clear();
    app.components = bytes.keys().map(|name| (name.clone(), template.clone())).collect();
    let everything = bytes.keys().map(|name| Spanned::unwritten(name.clone())).collect();
    let monolith = Shape { groups: BTreeMap::from([("monolith".to_owned(), everything)]), ..Shape::default() };
    app.shapes = BTreeMap::from([("monolith".to_owned(), monolith)]);

    let plan = plan(&app, &types, "monolith").expect("the app can be planned");
    let order: Vec<_> = plan.groups[0].components.iter().map(ToString::to_string).collect();
    assert_eq!(order.first().map(String::as_str), Some("counter"));
    assert_eq!(order.last().map(String::as_str), Some("link0"));

    let mut group = plan.groups[0].clone();
    group.handlers = support::group(&[], &[], &[("link0", "test:app/link0@0.1.0")]).handlers;
    let composition = compose(&group, &bytes).expect("the group composes");
    assert_eq!(composition.imports, []);

    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let first =
        instance.get_export_index(&mut store, None, "link0-http-handler").expect("the composition has the export");
    let say = instance.get_export_index(&mut store, Some(&first), "say").expect("the export has the function");
    let say = instance.get_func(&mut store, say).expect("the export is a function of this type");
    let mut results = [Val::Bool(false)];
    say.call(&mut store, &[Val::String("hello".to_owned())], &mut results).expect("the call returns");
    // Each component counts after the next component has returned, so the first component of the chain counts last.
    assert_eq!(format!("{results:?}"), "[Record([(\"text\", String(\"hello\")), (\"count\", U32(11))])]");
}

/// Two components with the same bytes are nested once, but have two instances.
#[test]
fn the_same_bytes_twice_are_two_components() {
    let counter = component(
        "0.2.6",
        "world w { import wasi:cli/environment@0.2.6; export counter; } interface counter { count: func() -> u32; }",
        &format!(
            r#"(module (import "wasi:cli/environment@0.2.6" "get-environment" (func $e (param i32))) {ALLOCATOR}
                (global $n (mut i32) (i32.const 0))
                (func (export "test:app/counter#count") (result i32)
                    (call $e (i32.const 0))
                    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#
        ),
    );
    let mut group = support::group(&["a", "b"], &[], &[("a", "test:app/counter"), ("b", "test:app/counter")]);
    support::labelled(&mut group, "a", "wasi:cli/environment@0.2.6", "a-env");
    support::labelled(&mut group, "b", "wasi:cli/environment@0.2.6", "b-env");
    let composition =
        compose(&group, &components(&[("a", counter.clone()), ("b", counter.clone())])).expect("the group composes");
    assert!(composition.bytes.len() < counter.len() * 2, "equal bytes are nested twice");
    let owners: Vec<_> = composition.imports.iter().map(|import| import.owner.clone()).collect();
    assert_eq!(owners, [ImportOwner::Component(name("a")), ImportOwner::Component(name("b"))]);

    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::new(&engine);
    for label in ["a-env", "b-env"] {
        let mut instance = linker.instance(label).expect("the name is not defined yet");
        let none = Vec::<(String, String)>::new;
        instance.func_wrap("get-environment", move |_, ()| Ok((none(),))).expect("the name is not defined yet");
    }
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let mut count = |export: &str| {
        let counter = instance.get_export_index(&mut store, None, export).expect("the composition has the export");
        let count =
            instance.get_export_index(&mut store, Some(&counter), "count").expect("the export has the function");
        let count =
            instance.get_typed_func::<(), (u32,)>(&mut store, count).expect("the export is a function of this type");
        count.call(&mut store, ()).expect("the call returns").0
    };
    assert_eq!([count("a-http-handler"), count("a-http-handler"), count("b-http-handler")], [1, 2, 1]);
}
