//! Tests that two fused components with different environments, configurations and stdout each reach only their own.

mod support;

use std::sync::Arc;

use isomer_plan::PlannedGroup;
use isomer_seam::{HostImport, ImportOwner, component_type, compose};
use support::{ALLOCATOR, component, components, group, labelled, name, shared};
use wasmtime::component::{Component, Linker, Resource, ResourceType};
use wasmtime::{Config, Engine, Store};

/// A function that returns the value of the component's first environment variable and the configuration value `who`,
/// and writes `line` to the component's stdout.
const TELL: &str = r#"
    (func $tell (param $out i32) (local $stream i32) (local $list i32)
        (call $get-environment (i32.const 64))
        (local.set $list (i32.load (i32.const 64)))
        (i32.store (local.get $out) (i32.load offset=8 (local.get $list)))
        (i32.store offset=4 (local.get $out) (i32.load offset=12 (local.get $list)))
        (call $get-config (i32.const 16) (i32.const 3) (i32.add (local.get $out) (i32.const 8)))
        (local.set $stream (call $get-stdout))
        (call $write (local.get $stream) (i32.const 32) (i32.const 6))
        (call $drop (local.get $stream)))
"#;

const IMPORTS: &str = r#"
    (import "wasi:cli/environment@VERSION" "get-environment" (func $get-environment (param i32)))
    (import "wasi:config/store@0.2.0-rc.1" "get" (func $get-config (param i32 i32 i32)))
    (import "wasi:cli/stdout@VERSION" "get-stdout" (func $get-stdout (result i32)))
    (import "wasi:io/streams@VERSION" "[method]output-stream.write" (func $write (param i32 i32 i32)))
    (import "wasi:io/streams@VERSION" "[resource-drop]output-stream" (func $drop (param i32)))
"#;

const WORLD_IMPORTS: &str = "
    import wasi:cli/environment@VERSION;
    import wasi:cli/stdout@VERSION;
    import wasi:config/store@0.2.0-rc.1;
";

/// An interface that contains only types, and two interfaces that use these types.
const TYPES: &str = "
    interface types { record seen { environment: string, config: string } }
    interface inner { use types.{seen}; tell: func() -> seen; }
    interface outer { use types.{seen}; tell: func() -> tuple<seen, seen>; }
";

fn inner() -> Arc<[u8]> {
    let wit = format!("{TYPES} world inner-world {{ {WORLD_IMPORTS} export inner; }}");
    let module = format!(
        r#"(module {IMPORTS} {ALLOCATOR} (data (i32.const 16) "who") (data (i32.const 32) "inner\n") {TELL}
            (func (export "test:app/inner#tell") (result i32) (call $tell (i32.const 128)) (i32.const 128)))"#
    );
    component("0.2.3", &wit, &module)
}

fn outer() -> Arc<[u8]> {
    let wit = format!("{TYPES} world outer-world {{ {WORLD_IMPORTS} import inner; export outer; }}");
    let module = format!(
        r#"(module {IMPORTS} (import "test:app/inner" "tell" (func $inner (param i32)))
            {ALLOCATOR} (data (i32.const 16) "who") (data (i32.const 32) "outer\n") {TELL}
            (func (export "test:app/outer#tell") (result i32)
                (call $tell (i32.const 128)) (call $inner (i32.const 144)) (i32.const 128)))"#
    );
    component("0.2.6", &wit, &module)
}

fn fused() -> PlannedGroup {
    let mut group = group(
        &["inner", "outer"],
        &[("outer", "test:app/inner", "inner", "test:app/inner")],
        &[("outer", "test:app/outer")],
    );
    for (part, version) in [("inner", "0.2.3"), ("outer", "0.2.6")] {
        labelled(&mut group, part, &format!("wasi:cli/environment@{version}"), &format!("{part}-environment"));
        labelled(&mut group, part, &format!("wasi:cli/stdout@{version}"), &format!("{part}-stdout"));
        labelled(&mut group, part, "wasi:config/store@0.2.0-rc.1", &format!("{part}-config"));
        shared(&mut group, part, &format!("wasi:io/streams@{version}"));
    }
    group
}

/// The host's side of an output stream. It contains the name of the stream's owner.
struct Stream(&'static str);

#[derive(Default)]
struct Host {
    /// The lines that were written, each with the owner of its stream.
    written: Vec<(&'static str, String)>,
    table: wasmtime::component::ResourceTable,
}

/// Implements an import for its owner, or for all components if the import is shared.
fn provide(linker: &mut Linker<Host>, import: &HostImport) {
    let owner = match &import.owner {
        ImportOwner::Component(owner) if *owner == name("inner") => "inner",
        ImportOwner::Component(_) => "outer",
        ImportOwner::Shared(_) => "shared",
    };
    let mut instance = linker.instance(&import.name).expect("each name occurs once");
    match import.interface.split('@').next() {
        Some("wasi:cli/environment") => instance
            .func_wrap("get-environment", move |_, ()| {
                Ok((vec![("NAME".to_owned(), format!("{owner}'s environment"))],))
            })
            .expect("the name is not defined yet"),
        Some("wasi:config/store") => instance
            .func_wrap("get", move |_, (key,): (String,)| Ok((format!("{owner}'s {key}"),)))
            .expect("the name is not defined yet"),
        Some("wasi:cli/stdout") => instance
            .func_wrap("get-stdout", move |mut store: wasmtime::StoreContextMut<'_, Host>, ()| {
                Ok((store.data_mut().table.push(Stream(owner))?,))
            })
            .expect("the name is not defined yet"),
        Some("wasi:io/streams") => {
            let resource = ResourceType::host::<Stream>();
            instance
                .resource("output-stream", resource, |mut store, rep| {
                    store.data_mut().table.delete(Resource::<Stream>::new_own(rep))?;
                    Ok(())
                })
                .expect("the name is not defined yet");
            instance
                .func_wrap(
                    "[method]output-stream.write",
                    |mut store: wasmtime::StoreContextMut<'_, Host>, (stream, text): (Resource<Stream>, String)| {
                        let whose = store.data_mut().table.get(&stream)?.0;
                        store.data_mut().written.push((whose, text));
                        Ok(())
                    },
                )
                .expect("the name is not defined yet");
        }
        other => panic!("unexpected import {other:?}"),
    }
}

#[test]
fn fused_components_reach_only_their_own_grants() {
    let composition =
        compose(&fused(), &components(&[("inner", inner()), ("outer", outer())])).expect("the group composes");

    let named: Vec<_> = composition.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(
        named,
        [
            "inner-environment",
            "wasi:io/streams@0.2.6",
            "inner-stdout",
            "inner-config",
            "outer-environment",
            "outer-stdout",
            "outer-config"
        ]
    );
    assert_eq!(composition.exports[0].name, "outer-http-handler");

    let engine = Engine::new(&Config::new()).expect("the engine starts");
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::new(&engine);
    composition.imports.iter().for_each(|import| provide(&mut linker, import));
    let mut store = Store::new(&engine, Host::default());
    let instance = linker.instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let outer =
        instance.get_export_index(&mut store, None, "outer-http-handler").expect("the composition has the export");
    let tell = instance.get_export_index(&mut store, Some(&outer), "tell").expect("the export has the function");
    let tell = instance.get_func(&mut store, tell).expect("the export is a function of this type");
    let mut results = [wasmtime::component::Val::Bool(false)];
    tell.call(&mut store, &[], &mut results).expect("the call returns");

    assert_eq!(
        format!("{results:?}"),
        "[Tuple([Record([(\"environment\", String(\"outer's environment\")), (\"config\", String(\"outer's who\"))]), \
         Record([(\"environment\", String(\"inner's environment\")), (\"config\", String(\"inner's who\"))])])]"
    );
    assert_eq!(store.data().written, [("outer", "outer\n".to_owned()), ("inner", "inner\n".to_owned())]);
}

#[test]
fn a_single_component_is_not_changed() {
    let mut single = group(&["inner"], &[], &[("inner", "test:app/inner")]);
    labelled(&mut single, "inner", "wasi:cli/environment@0.2.3", "unused");
    let bytes = inner();
    let composition = compose(&single, &components(&[("inner", bytes.clone())])).expect("the group composes");
    assert_eq!(composition.bytes[..], bytes[..]);
    let import = HostImport {
        name: "wasi:cli/environment@0.2.3".to_owned(),
        interface: "wasi:cli/environment@0.2.3".to_owned(),
        owner: ImportOwner::Component(name("inner")),
    };
    assert_eq!(composition.imports, [import]);
    assert_eq!(composition.exports[0].name, "test:app/inner");
}

#[test]
fn the_type_of_a_component_lists_imports_and_exports() {
    let (inner, outer) = (
        component_type(&inner()).expect("the component can be read"),
        component_type(&outer()).expect("the component can be read"),
    );
    let imports: Vec<_> = outer.imports.keys().map(ToString::to_string).collect();
    assert_eq!(
        imports,
        [
            "test:app/inner",
            "test:app/types",
            "wasi:cli/environment@0.2.6",
            "wasi:cli/stdout@0.2.6",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:io/streams@0.2.6"
        ]
    );
    let id = "test:app/inner".parse().expect("the name of an interface");
    let (import, export) = (&outer.imports[&id], &inner.exports[&id]);
    assert_eq!(import.functions["tell"].signature, "func() -> seen");
    assert_eq!(import.functions["tell"].hash, export.functions["tell"].hash);
    let id = "test:app/types".parse().expect("the name of an interface");
    assert!(outer.imports[&id].is_types_only());
}
