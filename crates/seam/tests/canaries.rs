//! Tests that no byte of a call can be read by a later call, not even in padding.

mod support;

use support::crossing::{Caller, callee, caller};
use wasmtime::Engine;
use wasmtime::component::Val;
use wit_component::StringEncoding;

/// Returns WIT functions in whose images bytes of an earlier call could remain: their types have padding, or values of
/// different lengths, so that a value can be shorter than the one of the previous call.
fn functions(kind: &str) -> String {
    format!(
        "record padded {{ a: u8, b: u64, c: u8, d: string, e: u16, f: option<u64> }}
         variant either {{ small(u8), large(padded) }}
         flat: {kind} func(it: either) -> either;
         lists: {kind} func(it: list<padded>, text: string) -> list<padded>;
         plain: {kind} func(a: u8, b: u64, c: u8) -> u8;
         spilled: {kind} func(a: padded, b: padded, c: padded, d: list<u8>) -> padded;"
    )
}

const SECRET: u8 = 0xA5;

fn padded(byte: u8, text: usize) -> Val {
    let field = |name: &str, value| (name.to_owned(), value);
    let number = u64::from_le_bytes([byte; 8]);
    Val::Record(vec![
        field("a", Val::U8(byte)),
        field("b", Val::U64(number)),
        field("c", Val::U8(byte)),
        field("d", string(byte, text)),
        field("e", Val::U16(u16::from_le_bytes([byte; 2]))),
        field("f", Val::Option((byte == SECRET).then(|| Box::new(Val::U64(number))))),
    ])
}

/// Returns a string of `count` characters. For [`SECRET`], the character is `å`, which is C3 A5 in UTF-8 and E5 in
/// Latin-1.
fn string(byte: u8, count: usize) -> Val {
    Val::String(if byte == SECRET { "å".repeat(count) } else { "\u{1}".repeat(count) })
}

fn bytes(byte: u8, count: usize) -> Val {
    Val::List(vec![Val::U8(byte); count])
}

fn calls(byte: u8, count: usize) -> Vec<(&'static str, Vec<Val>)> {
    let large = Val::Variant("large".to_owned(), Some(Box::new(padded(byte, count))));
    let list = Val::List(vec![padded(byte, count); count]);
    let number = Val::U64(u64::from_le_bytes([byte; 8]));
    vec![
        ("flat", vec![large]),
        ("lists", vec![list, string(byte, count * 10)]),
        ("plain", vec![Val::U8(byte), number, Val::U8(byte)]),
        ("spilled", vec![padded(byte, count), padded(byte, 0), padded(byte, 1), bytes(byte, count * 100)]),
    ]
}

fn run(caller: &mut Caller, calls: &[(&str, Vec<Val>)]) -> Vec<Vec<u8>> {
    for (function, arguments) in calls {
        let result = caller.call(function, arguments).expect("the call returns");
        assert_eq!(result.as_ref(), Some(&arguments[0]), "{function}");
    }
    std::mem::take(&mut caller.store.data_mut().images)
}

fn nothing_stays(kind: &str, encoding: StringEncoding) {
    let engine = Engine::default();
    let functions = functions(kind);
    let mut caller = caller(&engine, &functions, encoding, callee(&engine, &functions, encoding));
    let small = Val::Variant("small".to_owned(), Some(Box::new(Val::U8(1))));
    for (secret, arguments) in calls(SECRET, 20) {
        let images = run(&mut caller, &[(secret, arguments)]);
        assert!(images.iter().any(|image| image.contains(&SECRET)), "the secret is not in the image of its own call");
        let mut later = calls(1, 5);
        later.push(("flat", vec![small.clone()]));
        later.extend(calls(0, 0));
        later.extend(calls(1, 40));
        for (number, image) in run(&mut caller, &later).iter().enumerate() {
            assert!(!image.contains(&SECRET), "image {number} after `{secret}` of {encoding:?}: {image:x?}");
        }
    }
    // An image contains only the data of its own call, so it equals the image that a new instance makes.
    let mut fresh = support::crossing::caller(&engine, &functions, encoding, callee(&engine, &functions, encoding));
    for call in calls(1, 5) {
        assert_eq!(run(&mut caller, std::slice::from_ref(&call)), run(&mut fresh, &[call]));
    }
}

#[test]
fn nothing_remains_of_a_synchronous_call() {
    nothing_stays("", StringEncoding::UTF8);
}

#[test]
fn nothing_remains_of_an_asynchronous_call() {
    nothing_stays("async", StringEncoding::UTF8);
}

#[test]
fn nothing_remains_of_a_call_of_utf16_guests() {
    nothing_stays("", StringEncoding::UTF16);
}

#[test]
fn nothing_remains_of_a_call_of_latin1_guests() {
    nothing_stays("async", StringEncoding::CompactUTF16);
}

/// An image that is refused also leaves no data in the memory.
#[test]
fn nothing_remains_of_a_refused_image() {
    let engine = Engine::default();
    let functions = functions("");
    let utf8 = StringEncoding::UTF8;
    let mut caller = caller(&engine, &functions, utf8, callee(&engine, &functions, utf8));
    for function in 0..5 {
        let bad = vec![SECRET; 5000];
        let answer = caller.store.data_mut().callee().call(function, bad).expect("the call does not trap");
        assert_eq!(answer.is_ok(), function == 2, "all bit patterns are valid only for `plain`");
        caller.store.data_mut().images.clear();
        for image in run(&mut caller, &calls(1, 3)) {
            assert!(!image.contains(&SECRET));
        }
    }
}
