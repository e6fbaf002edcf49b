//! Tests of reading components: the errors for bytes that are not a valid component, the hashes of function types, the
//! classification of interfaces by the values that they pass, and signatures as text.

mod support;

use isomer_plan::{ComponentType, ValueClass};
use isomer_seam::{SeamError, component_type};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wit_component::{StringEncoding, dummy_module};
use wit_parser::{ManglingAndAbi, Resolve};

/// Returns the type of a component that does nothing. `wit` contains its world, in the package `test:app`.
fn type_of(wit: &str) -> ComponentType {
    component_type(&dummy(wit)).expect("the component can be read")
}

fn dummy(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", &format!("package test:app; {wit}")).expect("the WIT is right");
    let world = resolve.select_world(&[package], None).expect("there is one world");
    let module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    support::encoded(module, &resolve, world, StringEncoding::UTF8)
}

fn import(wit: &str) -> isomer_plan::InterfaceType {
    let mut ty = type_of(&format!("{wit} world w {{ import i; }}"));
    ty.imports.remove(&"test:app/i".parse().expect("the name of an interface")).expect("the component has the import")
}

#[test]
fn bytes_that_are_not_a_component_are_distinguished() {
    let mut newer = dummy("world w {}");
    newer[4] = 14;
    let package = {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("p.wit", "package a:b; interface c { d: func(); }").expect("the WIT is right");
        wit_component::encode(&resolve, package).expect("the package can be encoded")
    };
    let mut cut = dummy("world w {}");
    cut.truncate(cut.len() / 2);
    let cases: [(&[u8], &str); 9] = [
        (b"", "this is not WebAssembly: the file is empty"),
        (b"<html>", "this is not WebAssembly: it does not begin with `\\0asm`"),
        (b"\x7fELF\x02\x01\x01", "this is not WebAssembly: it is a native program (ELF)"),
        (b" (component)", "this is not WebAssembly: it is WebAssembly text, which must be turned into binary first"),
        (b"\0asm\x01", "this is not WebAssembly: the header is cut off"),
        (b"\0asm\x01\0\0\0", "this is a core WebAssembly module, not a component"),
        (&newer, "this is WebAssembly of version 14, layer 1; components have version 13, layer 1"),
        (&package, "this is a WIT package (types without code), not a component"),
        (&cut, "the component is not valid"),
    ];
    for (bytes, message) in cases {
        let error = component_type(bytes).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some() || matches!(error, SeamError::Invalid(_)), "{message}");
    }
}

#[test]
fn items_that_no_wit_world_has_are_refused_by_name() {
    let module = wat::parse_str(r#"(component (import "m" (core module)))"#).expect("the text is right");
    let error = component_type(&module).expect_err("WIT cannot describe a core module");
    assert_eq!(error.to_string(), "the component's import `m` is a core module, which WIT cannot describe");
}

#[test]
fn imports_without_an_interface_are_listed() {
    let ty = type_of("world w { import log: func(text: string); import inline: interface { f: func(); } }");
    assert_eq!(ty.world_imports, ["inline", "log"]);
}

#[test]
fn a_hash_depends_on_the_structure_only() {
    let hash = |wit: &str| import(wit).functions["f"].hash;
    let plain = hash("interface i { record r { a: u32, b: option<string> } f: func(r: r) -> list<r>; }");
    let same = [
        // Differences that do not change the hash: another type name, another interface, an alias, another function.
        "interface i { record q { a: u32, b: option<string> } f: func(r: q) -> list<q>; }",
        "interface t { record r { a: u32, b: option<string> } } interface i { use t.{r}; f: func(r: r) -> list<r>; }",
        "interface i { type o = option<string>; record r { a: u32, b: o } type l = list<r>; f: func(r: r) -> l; }",
        "interface i { record r { a: u32, b: option<string> } f: func(r: r) -> list<r>; g: func(r: r); }",
    ];
    for wit in same {
        assert_eq!(hash(wit), plain, "{wit}");
    }
    let other = [
        "interface i { record r { a: u32, b: option<string> } f: async func(r: r) -> list<r>; }",
        "interface i { record r { a: u32, b: option<string> } f: func(s: r) -> list<r>; }",
        "interface i { record r { a: u32, b: option<string> } f: func(r: r) -> option<r>; }",
        "interface i { record r { a: u32, b: option<string> } f: func(r: r); }",
        "interface i { record r { a: u64, b: option<string> } f: func(r: r) -> list<r>; }",
        "interface i { record r { a: u32, c: option<string> } f: func(r: r) -> list<r>; }",
        "interface i { record r { b: option<string>, a: u32 } f: func(r: r) -> list<r>; }",
        "interface i { f: func(r: tuple<u32, option<string>>) -> list<tuple<u32, option<string>>>; }",
    ];
    let mut hashes: Vec<_> = other.iter().map(|wit| hash(wit)).collect();
    hashes.push(plain);
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count, "two of the hashes are equal");
}

#[test]
fn an_import_and_an_export_of_one_interface_are_distinguished() {
    // Tools remove unused functions from an import, but an export always has all functions.
    let ty = type_of("interface i { record r { a: u32 } f: func(r: r); } world w { import i; export i; }");
    let id = "test:app/i".parse().expect("the name of an interface");
    assert_eq!(ty.imports[&id].functions["f"].hash, ty.exports[&id].functions["f"].hash);
    let resource = type_of("interface i { resource c { f: func(); } } world w { import i; export i; }");
    assert_eq!(resource.imports[&id].resources, resource.exports[&id].resources);
    assert_eq!(
        resource.imports[&id].functions["[method]c.f"].hash,
        resource.exports[&id].functions["[method]c.f"].hash
    );
}

#[test]
fn interfaces_are_classified() {
    let class = |wit: &str| import(wit).class;
    let pinned = |name: &str| ValueClass::Pinned { type_name: name.to_owned() };
    let streaming = |name: &str| ValueClass::Streaming { type_name: name.to_owned() };
    assert_eq!(
        class("interface i { record r { a: list<string> } f: func(r: r) -> result<u8, string>; }"),
        ValueClass::Plain
    );
    assert_eq!(class("interface i { f: func() -> stream<u8>; }"), streaming("stream<u8>"));
    assert_eq!(class("interface i { record r { a: option<future<u8>> } f: func(r: r); }"), streaming("future<u8>"));
    assert_eq!(class("interface i { resource cursor { next: func() -> u32; } }"), pinned("cursor"));
    let experimental = |name: &str| ValueClass::Experimental { type_name: name.to_owned() };
    assert_eq!(
        class("interface i { record r { a: option<list<u8, 4>> } f: func(r: r); }"),
        experimental("list<u8, 4>")
    );
    assert_eq!(class("interface i { f: func() -> map<string, u8>; }"), experimental("map<string, u8>"));
    assert_eq!(class("interface i { f: func(a: error-context) -> list<u8, 4>; }"), experimental("error-context"));
    let carried = "interface t { resource c; open: func() -> c; } interface i { use t.{c}; f: func(c: borrow<c>); }";
    assert_eq!(class(carried), pinned("c"));
    let carries = import(carried).carries;
    assert_eq!(
        carries.into_iter().collect::<Vec<_>>(),
        [("test:app/t".parse().expect("the name of an interface"), "c".to_owned())]
    );
}

#[test]
fn signatures_look_like_wit() {
    let ty = import(
        "interface i {
            variant v { a, b(u8) } enum e { x, y } flags g { p, q } resource c { m: func() -> own<c>; }
            f: async func(v: v, e: e, g: g, t: tuple<u8, s64>) -> result<list<char>, string>;
            h: func(c: borrow<c>) -> result<_, f64>;
        }",
    );
    assert_eq!(
        ty.functions["f"].signature,
        "async func(v: v, e: e, g: g, t: tuple<u8, s64>) -> result<list<char>, string>"
    );
    assert!(ty.functions["f"].is_async);
    assert_eq!(ty.functions["h"].signature, "func(c: borrow<c>) -> result<_, f64>");
    assert_eq!(ty.functions["[method]c.m"].signature, "func(self: borrow<c>) -> c");
    assert_eq!(ty.types["v"], "variant { a, b(u8) }");
    assert_eq!(ty.types["g"], "flags { p, q }");
}

const MANY_TYPES: &str = "
    interface t { resource c { m: func() -> own<c>; } record r { a: list<u8>, b: option<string> } variant v { x, y(r) } }
    interface i { use t.{c, r, v}; f: async func(c: borrow<c>, r: r) -> result<v, stream<r>>; }
    world w { import i; export i; import log: func(); }
";

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    /// The bytes of components are untrusted, so every input must give a result or an error, never a panic.
    #[test]
    fn damaged_components_are_parsed_or_refused(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = dummy(MANY_TYPES);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = component_type(&bytes);
    }
}

/// Returns the offsets of the texts among the parameters of a function.
fn text_offsets(parameters: &str) -> Vec<(String, Option<u32>)> {
    let wit = format!(
        "interface i {{ type id = string; record pair {{ a: u8, b: id }} enum kind {{ x, y }} \
         f: async func({parameters}) -> result<string>; }}"
    );
    let parameters = &import(&wit).functions["f"].parameters;
    parameters.iter().map(|parameter| (parameter.name.clone(), parameter.text_offset)).collect()
}

#[test]
fn texts_among_the_parameters_have_offsets_in_the_image() {
    let named = |expected: &[(&str, Option<u32>)]| -> Vec<_> {
        expected.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect()
    };
    assert_eq!(text_offsets("session: string"), named(&[("session", Some(0))]));
    assert_eq!(text_offsets("a: u8, session: id"), named(&[("a", None), ("session", Some(4))]));
    assert_eq!(
        text_offsets("a: u64, p: pair, l: list<u8>, o: option<string>, session: string, k: kind"),
        named(&[("a", None), ("p", None), ("l", None), ("o", None), ("session", Some(40)), ("k", None)])
    );
    // Seventeen flat values: the parameters are passed in memory, after the room for flat values.
    assert_eq!(
        text_offsets("a: tuple<pair, pair, pair, pair, pair>, session: string"),
        named(&[("a", None), ("session", Some(128 + 60))])
    );
    assert_eq!(text_offsets("a: stream<u8>, session: string"), named(&[("a", None), ("session", None)]));
}
