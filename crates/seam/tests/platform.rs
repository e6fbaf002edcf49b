//! Tests a component that imports all interfaces of the platform, by itself and fused with a second component.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use isomer_ids::ComponentName;
use isomer_manifest::{App, Grants, Shape, Spanned};
use isomer_plan::{Plan, plan};
use isomer_seam::{ImportOwner, component_type, compose};
use support::name;
use wasmtime::Engine;
use wasmtime::component::Component;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module};
use wit_parser::{ManglingAndAbi, Resolve};

/// The interfaces in the platform's packages that components export and no component imports.
const EXPORTED: [&str; 3] = ["run", "incoming-handler", "watcher"];

/// Returns a component that imports all interfaces of the platform, except the interfaces of the package `but`, and
/// exports an HTTP handler.
fn everything(but: Option<&str>) -> Arc<[u8]> {
    let mut text = String::from("package test:app; world all { export wasi:http/handler@0.3.0;\n");
    let mut packages = String::new();
    for package in isomer_wit::packages() {
        let mut interfaces = BTreeSet::new();
        for file in package.files {
            for line in file.text.lines() {
                if let Some(name) = line.strip_prefix("interface ") {
                    interfaces.insert(name.trim_end_matches(['{', ' ']).to_owned());
                }
            }
        }
        for interface in interfaces.iter().filter(|name| !EXPORTED.contains(&name.as_str())) {
            let id = format!("{}/{interface}@{}", package.name, package.version);
            if but != Some(package.name) {
                text.push_str(&format!("import {id};\n"));
            }
        }
        packages.push_str(&format!("package {} {{\n", package.id()));
        for file in package.files {
            let body = file.text.lines().filter(|line| !line.starts_with("package "));
            packages.extend(body.map(|line| format!("{line}\n")));
        }
        packages.push_str("}\n");
    }
    text.push_str("}\n");
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let package = resolve.push_str("all.wit", &(text + &packages)).expect("the WIT is right");
    let world = resolve.select_world(&[package], Some("all")).expect("there is one world");
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the metadata can be embedded");
    let mut encoder = ComponentEncoder::default().module(&module).expect("the module fits the world").validate(true);
    encoder.encode().expect("the component is valid").into()
}

fn planned(parts: &BTreeMap<ComponentName, Arc<[u8]>>) -> Plan {
    let mut app = App::single("x.wasm".as_ref(), Grants::default());
    let mut template = app.components.pop_first().expect("the app has one component").1;
    template.routes.clear();
    app.components = parts.keys().map(|name| (name.clone(), template.clone())).collect();
    app.components.values_mut().next().expect("the app has one component").routes =
        vec![Spanned::unwritten("/...".parse().expect("the route is valid"))];
    app.shapes = BTreeMap::from([("monolith".to_owned(), Shape::default())]);
    let types: BTreeMap<_, _> = parts
        .iter()
        .map(|(name, bytes)| (name.clone(), component_type(bytes).expect("the component can be read")))
        .collect();
    plan(&app, &types, "monolith").unwrap_or_else(|found| panic!("{found:#?}"))
}

#[test]
fn the_platform_provides_every_interface_of_its_packages() {
    let plan = planned(&BTreeMap::from([(name("all"), everything(None))]));
    let met: BTreeSet<_> = plan.groups[0].imports.iter().map(|import| import.interface.to_string()).collect();
    for interface in [
        "wasi:cli/environment@0.2.12",
        "wasi:http/client@0.3.0",
        "isomer:sql/store@0.1.0",
        "wasi:keyvalue/batch@0.2.0-draft2",
    ] {
        assert!(met.contains(interface), "{interface} in {met:?}");
    }
}

#[test]
fn components_that_import_everything_can_be_fused() {
    // The second component does not import the package `wasi:http`. So the two components define the imported
    // interfaces differently, and the composition merges their definitions.
    let parts = BTreeMap::from([(name("all"), everything(None)), (name("some"), everything(Some("wasi:http")))]);
    let plan = planned(&parts);
    let composition = compose(&plan.groups[0], &parts).expect("the group composes");
    let mut names: Vec<_> = composition.imports.iter().map(|import| &import.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), composition.imports.len());
    for import in &composition.imports {
        let authority = [
            "environment",
            "exit",
            "std",
            "terminal-std",
            "logging",
            "otel/logs",
            "otel/metrics",
            "otel/tracing",
            "preopens",
            "client",
            "outgoing-handler",
            "keyvalue",
            "store",
        ];
        let interface = import.interface.split('@').next().expect("the import has a name");
        let gives = authority.iter().any(|part| interface.contains(part)) || interface == "wasi:http/handler";
        assert_eq!(matches!(import.owner, ImportOwner::Component(_)), gives, "{import:?}");
    }
    let engine = Engine::default();
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    assert!(compiled.get_export(None, "all-http-handler").is_some());
}
