//! Tests that handles can pass between components that share an import. If the import is labelled, each component has
//! its own resource types.

mod support;

use isomer_seam::{HostImport, ImportOwner, compose};
use support::{ALLOCATOR, component, components, group, labelled, name, shared};
use wasmtime::component::{Component, Linker, Resource, ResourceTable, ResourceType, Val};
use wasmtime::{Engine, Store, StoreContextMut};

/// Returns a component that responds to a request with the request's path.
fn api() -> std::sync::Arc<[u8]> {
    let module = format!(
        r#"(module
            (import "wasi:http/types@0.3.0" "[method]request.path" (func $path (param i32 i32)))
            (import "wasi:http/types@0.3.0" "[resource-drop]request" (func $drop (param i32)))
            {ALLOCATOR}
            (func (export "wasi:http/handler@0.3.0#handle") (param i32) (result i32)
                (i32.store8 (i32.const 64) (i32.const 0))
                (call $path (local.get 0) (i32.const 68))
                (call $drop (local.get 0))
                (i32.const 64)))"#
    );
    component("0.2.6", "world w { export wasi:http/handler@0.3.0; }", &module)
}

/// Returns a component that forwards its requests to another component.
fn gate() -> std::sync::Arc<[u8]> {
    let module = format!(
        r#"(module
            (import "wasi:http/handler@0.3.0" "handle" (func $next (param i32 i32)))
            {ALLOCATOR}
            (func (export "wasi:http/handler@0.3.0#handle") (param i32) (result i32)
                (call $next (local.get 0) (i32.const 64))
                (i32.const 64)))"#
    );
    component("0.2.6", "world w { import wasi:http/handler@0.3.0; export wasi:http/handler@0.3.0; }", &module)
}

struct Request(String);

#[test]
fn a_request_passes_through_two_components() {
    let handler = "wasi:http/handler@0.3.0";
    let mut group = group(&["api", "gate"], &[("gate", handler, "api", handler)], &[("gate", handler)]);
    shared(&mut group, "api", "wasi:http/types@0.3.0");
    shared(&mut group, "gate", "wasi:http/types@0.3.0");
    let composition = compose(&group, &components(&[("api", api()), ("gate", gate())])).expect("the group composes");
    let import = HostImport {
        name: "wasi:http/types@0.3.0".to_owned(),
        interface: "wasi:http/types@0.3.0".to_owned(),
        owner: ImportOwner::Shared(vec![name("api"), name("gate")]),
    };
    assert_eq!(composition.imports, [import]);

    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::<ResourceTable>::new(&engine);
    let mut types = linker.instance("wasi:http/types@0.3.0").expect("the name is not defined yet");
    types
        .resource("request", ResourceType::host::<Request>(), |mut store, rep| {
            store.data_mut().delete(Resource::<Request>::new_own(rep))?;
            Ok(())
        })
        .expect("the name is not defined yet");
    types
        .func_wrap(
            "[method]request.path",
            |store: StoreContextMut<'_, ResourceTable>, (request,): (Resource<Request>,)| {
                Ok((store.data().get(&request)?.0.clone(),))
            },
        )
        .expect("the name is not defined yet");
    let mut store = Store::new(&engine, ResourceTable::new());
    let instance = linker.instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let gate =
        instance.get_export_index(&mut store, None, "gate-http-handler").expect("the composition has the export");
    let handle = instance.get_export_index(&mut store, Some(&gate), "handle").expect("the export has the function");
    let handle = instance.get_func(&mut store, handle).expect("the export is a function of this type");
    let request = store.data_mut().push(Request("/cart".to_owned())).expect("the table has room");
    let request = request.try_into_resource_any(&mut store).expect("the value is a resource");
    let mut results = [Val::Bool(false)];
    handle.call(&mut store, &[Val::Resource(request)], &mut results).expect("the call returns");
    assert_eq!(format!("{results:?}"), "[Result(Ok(Some(String(\"/cart\"))))]");
    assert!(store.data().is_empty(), "the handle was not dropped");
}

/// The WIT of a key store. Its two interfaces share a resource.
const KEYS: &str = "
    interface keys { resource bucket; open: func() -> bucket; }
    interface batch { use keys.{bucket}; first: func(bucket: borrow<bucket>) -> string; }
    interface inner { read: func() -> string; }
    interface outer { read: func() -> tuple<string, string>; }
";

/// Returns a component that opens a bucket with `keys` and reads it with `batch`. `then` is code that runs afterwards;
/// in the component `outer`, it calls the component `inner`.
fn reader(export: &str, world: &str, import: &str, then: &str) -> std::sync::Arc<[u8]> {
    let module = format!(
        r#"(module
            (import "test:app/keys" "open" (func $open (result i32)))
            (import "test:app/keys" "[resource-drop]bucket" (func $drop (param i32)))
            (import "test:app/batch" "first" (func $first (param i32 i32)))
            {import} {ALLOCATOR}
            (func (export "test:app/{export}#read") (result i32) (local $bucket i32)
                (local.set $bucket (call $open))
                (call $first (local.get $bucket) (i32.const 64))
                (call $drop (local.get $bucket))
                {then}
                (i32.const 64)))"#
    );
    component("0.2.6", &format!("{KEYS} world w {{ import keys; import batch; {world} }}"), &module)
}

#[test]
fn a_family_with_resources_is_labelled_as_a_whole() {
    let inner = "test:app/inner";
    let mut group = group(&["inner", "outer"], &[("outer", inner, "inner", inner)], &[("outer", "test:app/outer")]);
    for part in ["inner", "outer"] {
        labelled(&mut group, part, "test:app/keys", &format!("{part}-keys"));
        labelled(&mut group, part, "test:app/batch", &format!("{part}-batch"));
    }
    let parts = components(&[
        ("inner", reader("inner", "export inner;", "", "")),
        (
            "outer",
            reader(
                "outer",
                "import inner; export outer;",
                r#"(import "test:app/inner" "read" (func $inner (param i32)))"#,
                "(call $inner (i32.const 72))",
            ),
        ),
    ]);
    let composition = compose(&group, &parts).expect("the group composes");
    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut linker = Linker::<ResourceTable>::new(&engine);
    for owner in ["inner", "outer"] {
        let mut keys = linker.instance(&format!("{owner}-keys")).expect("the name is not defined yet");
        keys.resource("bucket", ResourceType::host::<Request>(), |mut store, rep| {
            store.data_mut().delete(Resource::<Request>::new_own(rep))?;
            Ok(())
        })
        .expect("the name is not defined yet");
        keys.func_wrap("open", move |mut store: StoreContextMut<'_, ResourceTable>, ()| {
            Ok((store.data_mut().push(Request(owner.to_owned()))?,))
        })
        .expect("the name is not defined yet");
        let mut batch = linker.instance(&format!("{owner}-batch")).expect("the name is not defined yet");
        batch
            .func_wrap("first", |store: StoreContextMut<'_, ResourceTable>, (bucket,): (Resource<Request>,)| {
                Ok((store.data().get(&bucket)?.0.clone(),))
            })
            .expect("the name is not defined yet");
    }
    let mut store = Store::new(&engine, ResourceTable::new());
    let instance = linker.instantiate(&mut store, &compiled).expect("the component can be instantiated");
    let out =
        instance.get_export_index(&mut store, None, "outer-http-handler").expect("the composition has the export");
    let read = instance.get_export_index(&mut store, Some(&out), "read").expect("the export has the function");
    let read = instance
        .get_typed_func::<(), ((String, String),)>(&mut store, read)
        .expect("the export is a function of this type");
    let said = read.call(&mut store, ()).expect("the call returns").0;
    assert_eq!(said, ("outer".to_owned(), "inner".to_owned()));
}
