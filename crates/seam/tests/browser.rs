//! Tests of the compositions of a shape with a browser group: the server's composition answers calls of tabs and fused
//! calls with the same instance, and the tab's composition calls the server.

mod support;

use std::collections::BTreeMap;

use isomer_diagnostics::SourceFile;
use isomer_plan::{Plan, plan};
use isomer_seam::{Components, component_type, compose};
use isomer_wire::image::{BASE, BLOCKS};
use support::{ALLOCATOR, component, components, name};
use wasmtime::component::{Component, Instance, Linker, ResourceType, Val};
use wasmtime::{Engine, Store};

const MANIFEST: &str = r#"
[app]
name = "shop"
version = "0.1.0"

[components.front]
wasm = "front.wasm"
routes = ["/..."]

[components.cart]
wasm = "cart.wasm"
exposed = [{ functions = "test:app/cart.add", session = "session-id" }]

[session]
cookie = "shop"

[shapes.tab.groups]
client = { components = ["front"], place = "browser" }
"#;

const CART: &str = "interface cart { add: func(count: u8, session-id: string) -> u32; clear: func(); }";

/// A shop in which `front` calls `cart`. `cart` adds the length of the session's text to a sum, and returns the sum.
fn shop() -> Components {
    let cart = component(
        "0.2.6",
        &format!("{CART} world w {{ export cart; }}"),
        &format!(
            r#"(module {ALLOCATOR} (global $sum (mut i32) (i32.const 0))
                (func (export "test:app/cart#clear") (global.set $sum (i32.const 0)))
                (func (export "test:app/cart#add") (param i32 i32 i32) (result i32)
                    (global.set $sum (i32.add (global.get $sum) (local.get 2)))
                    (global.get $sum)))"#
        ),
    );
    let front = component(
        "0.2.6",
        &format!(
            "{CART} interface pages {{ show: func() -> u32; }} \
             world w {{ import cart; export pages; export wasi:http/handler@0.3.0; }}"
        ),
        &format!(
            r#"(module (import "test:app/cart" "add" (func $add (param i32 i32 i32) (result i32))) {ALLOCATOR}
                (data (i32.const 16) "own session")
                (func (export "test:app/pages#show") (result i32) (call $add (i32.const 1) (i32.const 16) (i32.const 11)))
                (func (export "wasi:http/handler@0.3.0#handle") (param i32) (result i32) unreachable))"#
        ),
    );
    components(&[("cart", cart), ("front", front)])
}

fn planned(components: &Components, shape: &str) -> Plan {
    let parsed = isomer_manifest::parse(&SourceFile::new("isomer.toml", MANIFEST)).expect("the manifest is right");
    let types: BTreeMap<_, _> = components
        .iter()
        .map(|(name, bytes)| (name.clone(), component_type(bytes).expect("the component can be read")))
        .collect();
    plan(&parsed.app, &types, shape).expect("the app can be planned")
}

/// Instantiates a composition. Its handler is never called.
fn instantiated(bytes: &[u8]) -> (Store<()>, Instance) {
    let engine = Engine::default();
    let compiled = Component::new(&engine, bytes).expect("the component compiles");
    let mut linker = Linker::new(&engine);
    let mut types = linker.instance("wasi:http/types@0.3.0").expect("the name is not defined yet");
    types.resource("request", ResourceType::host::<()>(), |_, _| Ok(())).expect("the name is not defined yet");
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &compiled).expect("the component can be instantiated");
    (store, instance)
}

fn call(store: &mut Store<()>, instance: &Instance, export: &str, function: &str, arguments: &[Val]) -> Val {
    let export = instance.get_export_index(&mut *store, None, export).expect("the composition has the export");
    let function =
        instance.get_export_index(&mut *store, Some(&export), function).expect("the export has the function");
    let function = instance.get_func(&mut *store, function).expect("the export is a function");
    let mut results = [Val::Bool(false)];
    function.call(&mut *store, arguments, &mut results).expect("the call returns");
    let [result] = results;
    result
}

/// Returns the image of the arguments of `add`, as a stub makes it.
fn image(session: &str) -> Vec<u8> {
    let mut image = vec![0; (BLOCKS - BASE) as usize];
    image[0] = 1;
    image[4..8].copy_from_slice(&BLOCKS.to_le_bytes());
    image[8..12].copy_from_slice(&u32::try_from(session.len()).expect("the text is short").to_le_bytes());
    image.extend_from_slice(session.as_bytes());
    image
}

/// Returns the text that an image contains at an offset of the plan.
fn text_at(image: &[u8], offset: u32) -> &[u8] {
    let number = |at: u32| {
        let at = at as usize;
        u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes"))
    };
    let start = (number(offset) - BASE) as usize;
    &image[start..start + number(offset + 4) as usize]
}

#[test]
fn the_server_answers_fused_calls_and_calls_of_tabs() {
    let components = shop();
    let plan = planned(&components, "tab");
    let browser = plan.browser.as_ref().expect("the shape has a browser group");
    let identity = browser.seams[0].functions[0].identity.as_ref().expect("the function has an identity");
    let [server] = plan.groups.as_slice() else { panic!("the server runs one composition") };
    let mut server = server.clone();
    server.handlers.extend(support::group(&[], &[], &[("front", "test:app/pages")]).handlers);
    server.handlers.remove(0);
    let composition = compose(&server, &components).expect("the group composes");
    let [skeleton] = composition.skeletons.as_slice() else { panic!("only the cart is called from tabs") };
    assert_eq!(skeleton.component, name("cart"));

    let (mut store, instance) = instantiated(&composition.bytes);
    let mut dispatch = |function: u32, image: &[u8]| {
        let image = Val::List(image.iter().map(|byte| Val::U8(*byte)).collect());
        call(&mut store, &instance, &skeleton.name, "call", &[Val::U32(function), image])
    };
    let image = image("a tab");
    assert_eq!(text_at(&image, identity.offset), b"a tab");
    let sum = |sum: u32| Val::Result(Ok(Some(Box::new(Val::List(sum.to_le_bytes().map(Val::U8).to_vec())))));
    let refused = |refusal: &str| Val::Result(Err(Some(Box::new(Val::Enum(refusal.to_owned())))));
    assert_eq!(dispatch(0, &image), sum(5));
    // `clear` is not exposed, so the skeleton has no second function.
    assert_eq!(dispatch(1, &[]), refused("unknown-function"));
    assert_eq!(dispatch(0, &image[..image.len() - 1]), refused("bad-image"));
    // The fused call reaches the same instance of the cart.
    assert_eq!(call(&mut store, &instance, "front-http-handler", "show", &[]), Val::U32(5 + 11));
    let pages = |plan: &Plan| {
        let mut group = plan.groups[0].clone();
        group.handlers = server.handlers.clone();
        let (mut store, instance) = instantiated(&compose(&group, &components).expect("the group composes").bytes);
        call(&mut store, &instance, "front-http-handler", "show", &[])
    };
    assert_eq!(pages(&plan), pages(&planned(&components, "monolith")));
}

#[test]
fn a_tab_sends_its_calls() {
    let components = shop();
    let plan = planned(&components, "tab");
    let browser = plan.browser.expect("the shape has a browser group");
    let composition = compose(&browser.group, &components).expect("the group composes");
    let imports: Vec<_> = composition.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(imports, ["wasi:http/types@0.3.0", "front-isomer-link-wire"]);
    let exports: Vec<_> = composition.exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!((exports.as_slice(), composition.skeletons.len()), (["front-http-handler"].as_slice(), 0));
}
