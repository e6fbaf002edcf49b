//! Builds components from WIT and core modules in text form, and creates planned groups of them without the planner.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod crossing;
pub(crate) mod probed;
pub(crate) mod shapes;

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_ids::ComponentName;
use isomer_plan::{HostBinding, Http, ImportBinding, PlannedGroup, PlannedHandler, ResolvedImport};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

/// The WIT of the host's interfaces. `@VERSION` is replaced by their version.
const WASI: &str = r#"
package wasi:io@VERSION {
    interface streams {
        resource output-stream { write: func(text: string); }
    }
}
package wasi:cli@VERSION {
    interface environment { get-environment: func() -> list<tuple<string, string>>; }
    interface stdout {
        use wasi:io/streams@VERSION.{output-stream};
        get-stdout: func() -> output-stream;
    }
}
package wasi:config@0.2.0-rc.1 {
    interface store { get: func(key: string) -> string; }
}
package wasi:http@0.3.0 {
    interface types {
        resource request { path: func() -> string; }
        record error { text: string }
    }
    interface handler {
        use types.{request, error};
        handle: func(request: request) -> result<string, error>;
    }
}
"#;

/// A memory and an allocator in text form. The allocator never frees a block, which is sufficient for short tests.
pub(crate) const ALLOCATOR: &str = r#"
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 4096))
    (func $allocate (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $top (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
        (global.get $top)
        (global.set $top (i32.add (global.get $top) (local.get 3))))
"#;

/// Returns a component with a core module in text form. `wit` is the content of a package `test:app` that contains a
/// world `world`, and `wasi` is the version of the host's interfaces.
pub(crate) fn component(wasi: &str, wit: &str, module: &str) -> Arc<[u8]> {
    let mut resolve = Resolve::default();
    let text = format!("package test:app;\n{}\n{}", wit.replace("VERSION", wasi), WASI.replace("VERSION", wasi));
    let package = resolve.push_str("test.wit", &text).expect("the WIT is right");
    let world = resolve.select_world(&[package], None).expect("there is one world");
    let module = wat::parse_str(module.replace("VERSION", wasi)).expect("the text is right");
    encoded(module, &resolve, world, StringEncoding::UTF8).into()
}

pub(crate) fn name(name: &str) -> ComponentName {
    ComponentName::new(name).expect("the name is right")
}

pub(crate) fn components(parts: &[(&str, Arc<[u8]>)]) -> BTreeMap<ComponentName, Arc<[u8]>> {
    parts.iter().map(|(part, bytes)| (name(part), bytes.clone())).collect()
}

/// Returns the planned group of the components in `order`. `links` contains importer, import, exporter and export of
/// each seam.
pub(crate) fn group(order: &[&str], links: &[(&str, &str, &str, &str)], handlers: &[(&str, &str)]) -> PlannedGroup {
    let id = |text: &str| text.parse().expect("the interface's name is right");
    PlannedGroup {
        name: "test".to_owned(),
        isolated_from: None,
        components: order.iter().map(|part| name(part)).collect(),
        links: links
            .iter()
            .map(|(importer, import, exporter, export)| ResolvedImport {
                importer: name(importer),
                import: id(import),
                exporter: name(exporter),
                export: id(export),
            })
            .collect(),
        imports: vec![],
        handlers: handlers
            .iter()
            .map(|(component, interface)| PlannedHandler {
                component: name(component),
                interface: id(interface),
                http: Http::P3,
                routes: vec![],
            })
            .collect(),
        stubs: vec![],
        skeletons: vec![],
    }
}

/// Adds to the group an import of `interface` by `component`, which it shares with the other components that import
/// `interface`.
pub(crate) fn shared(group: &mut PlannedGroup, component: &str, interface: &str) {
    bind(group, component, interface, ImportBinding::Shared);
}

/// Adds to the group an import of `interface` by `component`, which has the label `label` and is not shared.
pub(crate) fn labelled(group: &mut PlannedGroup, component: &str, interface: &str, label: &str) {
    bind(group, component, interface, ImportBinding::Labelled { label: label.to_owned() });
}

fn bind(group: &mut PlannedGroup, component: &str, interface: &str, binding: ImportBinding) {
    let interface = interface.parse().expect("the interface's name is right");
    group.imports.push(HostBinding { component: name(component), interface, binding });
}

/// Encodes a core module as a component that implements `world`, and returns the component's bytes.
pub(crate) fn encoded(mut module: Vec<u8>, resolve: &Resolve, world: WorldId, encoding: StringEncoding) -> Vec<u8> {
    wit_component::embed_component_metadata(&mut module, resolve, world, encoding)
        .expect("the metadata can be embedded");
    ComponentEncoder::default()
        .module(&module)
        .expect("the module fits the world")
        .validate(true)
        .encode()
        .expect("the component is valid")
}
