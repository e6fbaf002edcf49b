//! Tests that each invalid image is refused, by the skeleton as arguments and by the stub as a result, and that the
//! next call works.

mod support;

use isomer_wire::image::{BASE, BLOCKS, IMAGE_BYTES_MAX};
use support::crossing::{Answer, Caller, Refusal, callee, caller, plainly};
use wasmtime::Engine;
use wasmtime::component::Val;
use wit_component::StringEncoding;

const FUNCTIONS: &str = r#"
    use isomer:link/types@0.1.0.{call-error};
    variant either { number(u32), words(string), none }
    character: func(it: result<char, call-error>) -> result<char, call-error>;
    kind: func(it: result<either, call-error>) -> result<either, call-error>;
    nested: func(it: result<list<list<string>>, call-error>) -> result<list<list<string>>, call-error>;
    pair: func(it: result<tuple<string, string>, call-error>) -> result<tuple<string, string>, call-error>;
    text: func(it: result<string, call-error>) -> result<string, call-error>;
    wide: func(it: result<list<u64>, call-error>) -> result<list<u64>, call-error>;
"#;

const NAMES: [&str; 6] = ["character", "kind", "nested", "pair", "text", "wide"];

/// The address of the payload of `ok`: after the discriminant and its padding.
const OK: u32 = BASE + 4;

/// An image that a test writes, at the addresses at which generated code reads it.
struct Image(Vec<u8>);

impl Image {
    fn ending_at(end: u32) -> Self {
        Image(vec![0; (end - BASE) as usize])
    }

    fn put(mut self, address: u32, bytes: &[u8]) -> Self {
        let place = (address - BASE) as usize;
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn pair(self, address: u32, first: u32, second: u32) -> Self {
        self.put(address, &first.to_le_bytes()).put(address + 4, &second.to_le_bytes())
    }
}

/// Returns an image with one string of 8 bytes at `blocks`. The image's root contains `address` and `length`.
fn text(blocks: u32, address: u32, length: u32) -> Image {
    Image::ending_at(blocks + 8).put(blocks, b"abcdefgh").pair(OK, address, length)
}

fn ok(value: Val) -> Val {
    Val::Result(Ok(Some(Box::new(value))))
}

fn refused() -> Val {
    Val::Result(Err(Some(Box::new(Val::Enum("refused".to_owned())))))
}

fn both() -> Caller {
    let engine = Engine::default();
    let utf8 = StringEncoding::UTF8;
    caller(&engine, FUNCTIONS, utf8, callee(&engine, FUNCTIONS, utf8))
}

fn number(function: &str) -> u32 {
    let place = NAMES.iter().position(|name| *name == function).expect("the name of a function");
    u32::try_from(place).expect("few functions")
}

fn call(caller: &mut Caller, function: u32, image: Vec<u8>) -> Answer {
    caller.store.data_mut().callee().call(function, image).expect("a bad image does not trap")
}

/// Checks that a valid call through the stub and the skeleton returns a result.
fn answers(caller: &mut Caller) {
    let value = ok(Val::Tuple(vec![Val::String("right".to_owned()), Val::String("grün".to_owned())]));
    assert_eq!(caller.call("pair", std::slice::from_ref(&value)).expect("the call returns"), Some(value));
}

/// Checks that an image is refused as the arguments and as the result of a function. `image` receives the address at
/// which the image's blocks begin.
fn is_refused(function: &str, root: u32, image: impl Fn(u32) -> Image) {
    let mut caller = both();
    answers(&mut caller);
    assert_eq!(
        call(&mut caller, number(function), image(BLOCKS).0),
        Err(Refusal::BadImage),
        "the image is accepted as arguments"
    );
    answers(&mut caller);
    let answer = image(BASE + root).0;
    caller.store.data_mut().answer = Box::new(move |_| Ok(answer.clone()));
    let right = Val::Result(Err(Some(Box::new(Val::Enum("deadline".to_owned())))));
    assert_eq!(
        caller.call(function, &[right]).expect("the failure is returned as a value"),
        Some(refused()),
        "the image is accepted as a result"
    );
    caller.store.data_mut().answer = Box::new(plainly);
    answers(&mut caller);
}

/// The unchanged images are valid, so it is the changes in the other tests that cause the refusals.
#[test]
fn the_unchanged_images_are_valid() {
    let mut caller = both();
    let answer = call(&mut caller, number("text"), text(BLOCKS, BLOCKS, 8).0).expect("the image is valid");
    assert_eq!(answer, text(BASE + 12, BASE + 12, 8).0);
    let nested = |blocks| nested(blocks, blocks + 16, blocks + 24);
    let answer = call(&mut caller, number("nested"), nested(BLOCKS).0).expect("the image is valid");
    assert_eq!(answer, nested(BASE + 12).0);
    let wide = Image::ending_at(BLOCKS + 16).pair(OK, BLOCKS, 2).put(BLOCKS, &[7; 16]);
    assert!(call(&mut caller, number("wide"), wide.0).is_ok());
    let kind = Image::ending_at(BASE + 16).put(OK, &[2]);
    assert_eq!(call(&mut caller, number("kind"), kind.0.clone()), Ok(kind.0));
    let character = Image::ending_at(BASE + 8).put(OK, &0x1F600_u32.to_le_bytes());
    assert_eq!(call(&mut caller, number("character"), character.0.clone()), Ok(character.0));
}

/// Returns an image with a list of two lists that contain one string each. The blocks are consecutive: the outer list,
/// the first inner list, its string, the second inner list, its string.
fn nested(blocks: u32, first: u32, second: u32) -> Image {
    Image::ending_at(blocks + 36)
        .pair(OK, blocks, 2)
        .pair(blocks, first, 1)
        .pair(blocks + 8, second, 1)
        .pair(blocks + 16, blocks + 24, 0)
        .pair(blocks + 24, blocks + 32, 4)
        .put(blocks + 32, b"four")
}

#[test]
fn a_pointer_outside_the_image() {
    is_refused("text", 12, |blocks| text(blocks, 1 << 20, 8));
    is_refused("text", 12, |blocks| text(blocks, 0xFFFF_FFF8, 8));
}

#[test]
fn a_pointer_before_the_base() {
    is_refused("text", 12, |blocks| text(blocks, 16, 8));
    is_refused("text", 12, |blocks| text(blocks, 0, 8));
}

#[test]
fn a_pointer_to_the_root() {
    is_refused("text", 12, |blocks| text(blocks, BASE, 8));
}

#[test]
fn a_pointer_into_zeroed_memory() {
    is_refused("text", 12, |blocks| text(blocks, blocks + 8, 8));
}

#[test]
fn a_block_past_the_end() {
    is_refused("text", 12, |blocks| text(blocks, blocks, 9));
    is_refused("text", 12, |blocks| text(blocks, blocks + 7, 2));
}

#[test]
fn an_empty_block_past_the_end() {
    is_refused("text", 12, |blocks| text(blocks, blocks + 9, 0));
}

#[test]
fn aliased_blocks() {
    is_refused("pair", 20, |blocks| text(blocks, blocks, 8).pair(OK + 8, blocks, 8));
}

#[test]
fn nested_aliased_blocks() {
    // Both inner lists have the same address.
    is_refused("nested", 12, |blocks| nested(blocks, blocks + 24, blocks + 24));
    // An inner list has the address of the outer list.
    is_refused("nested", 12, |blocks| nested(blocks, blocks, blocks + 24));
}

#[test]
fn overlapping_blocks() {
    is_refused("pair", 20, |blocks| text(blocks, blocks, 5).pair(OK + 8, blocks + 4, 4));
}

#[test]
fn blocks_in_another_order() {
    is_refused("pair", 20, |blocks| text(blocks, blocks + 4, 4).pair(OK + 8, blocks, 4));
}

#[test]
fn a_misaligned_block() {
    is_refused("wide", 12, |blocks| Image::ending_at(blocks + 32).pair(OK, blocks.next_multiple_of(8) + 4, 1));
    is_refused("wide", 12, |blocks| Image::ending_at(blocks + 32).pair(OK, blocks.next_multiple_of(8) + 1, 0));
}

#[test]
fn a_length_that_overflows() {
    for length in [0x2000_0000, 0x2000_0001, 0xFFFF_FFFF] {
        is_refused("wide", 12, |blocks| Image::ending_at(blocks + 32).pair(OK, blocks.next_multiple_of(8), length));
    }
}

#[test]
fn lengths_of_four_billion() {
    is_refused("text", 12, |blocks| text(blocks, blocks, u32::MAX));
    is_refused("text", 12, |blocks| text(blocks, blocks, 0u32.wrapping_sub(blocks)));
    is_refused("nested", 12, |blocks| Image::ending_at(blocks + 16).pair(OK, blocks, u32::MAX));
}

#[test]
fn text_that_is_not_utf8() {
    for bad in [
        &b"\x80"[..],
        b"\xC0\x80",
        b"\xC1\xBF",
        b"\xC2",
        b"\xC2A",
        b"\xE0\x9F\x80",
        b"\xED\xA0\x80",
        b"\xE2\x82",
        b"\xF0\x8F\x80\x80",
        b"\xF4\x90\x80\x80",
        b"\xF5\x80\x80\x80",
        b"\xFF",
        b"\xF0\x9F\x98",
        b"\xE2\x82A",
    ] {
        assert!(std::str::from_utf8(bad).is_err(), "{bad:?}");
        for before in [0, 1, 15, 16, 17, 40] {
            let bytes = [&vec![b'a'; before], bad].concat();
            is_refused_text(&bytes);
        }
    }
}

fn is_refused_text(bytes: &[u8]) {
    thread_local!(static BOTH: std::cell::RefCell<Caller> = std::cell::RefCell::new(both()));
    let length = u32::try_from(bytes.len()).expect("a short text");
    let image = Image::ending_at(BLOCKS + length).pair(OK, BLOCKS, length).put(BLOCKS, bytes);
    BOTH.with_borrow_mut(|both| {
        assert_eq!(call(both, number("text"), image.0), Err(Refusal::BadImage), "{bytes:?}");
    });
}

#[test]
fn text_with_characters_of_every_length_passes() {
    let mut caller = both();
    let all = "a\u{7f}\u{80}\u{7ff}\u{800}\u{fff}\u{1000}\u{cfff}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{3ffff}\u{40000}\u{10ffff}";
    for before in 0..40 {
        let value = ok(Val::String(format!("{}{all}{all} and the rest is ASCII again", "x".repeat(before))));
        assert_eq!(caller.call("text", std::slice::from_ref(&value)).expect("the call returns"), Some(value));
    }
}

#[test]
fn a_discriminant_without_a_case() {
    is_refused("kind", 16, |_| Image::ending_at(BASE + 16).put(BASE, &[2]));
    is_refused("kind", 16, |_| Image::ending_at(BASE + 16).put(OK, &[3]));
    is_refused("kind", 16, |_| Image::ending_at(BASE + 16).put(OK, &[255]));
    // The result is `err(call-error)`, and `call-error` has no case 4.
    is_refused("kind", 16, |_| Image::ending_at(BASE + 16).put(BASE, &[1]).put(OK, &[4]));
}

#[test]
fn an_invalid_character() {
    for character in [0xD800_u32, 0xDFFF, 0x11_0000, u32::MAX] {
        is_refused("character", 8, |_| Image::ending_at(BASE + 8).put(OK, &character.to_le_bytes()));
    }
}

#[test]
fn a_truncated_root() {
    is_refused("text", 12, |_| Image::ending_at(BASE + 11));
    is_refused("nested", 12, |_| Image::ending_at(BASE + 4));
}

#[test]
fn an_empty_image() {
    is_refused("text", 12, |_| Image::ending_at(BASE));
}

#[test]
fn an_unknown_function() {
    let mut caller = both();
    for function in [6, 7, u32::MAX] {
        assert_eq!(call(&mut caller, function, text(BLOCKS, BLOCKS, 8).0), Err(Refusal::UnknownFunction));
    }
    answers(&mut caller);
}

#[test]
fn a_function_of_the_other_kind() {
    let mut caller = both();
    let callee = caller.store.data_mut().callee();
    let call_async = callee.call_async.call_async(&mut callee.store, (4, text(BLOCKS, BLOCKS, 8).0));
    assert_eq!(support::crossing::block_on(call_async).expect("the call returns").0, Err(Refusal::UnknownFunction));
    answers(&mut caller);
}

#[test]
fn arguments_larger_than_an_image_trap_with_the_reason() {
    let mut caller = both();
    let long = "x".repeat(IMAGE_BYTES_MAX as usize);
    let error = caller.call("text", &[ok(Val::String(long))]).expect_err("the image is too large");
    let trace = error.downcast_ref::<wasmtime::WasmBacktrace>().expect("the error has a backtrace");
    assert!(trace.frames().iter().any(|frame| frame.func_name() == Some("image_too_large")), "{error:?}");
}

#[test]
fn a_lost_call_is_a_value_if_the_error_type_has_a_place() {
    use support::crossing::CallError;
    let mut caller = both();
    for (error, name) in [
        (CallError::Unreachable, "unreachable"),
        (CallError::Deadline, "deadline"),
        (CallError::Overloaded, "overloaded"),
        (CallError::Refused, "refused"),
    ] {
        caller.store.data_mut().answer = Box::new(move |_| Err(error));
        let lost = Val::Result(Err(Some(Box::new(Val::Enum(name.to_owned())))));
        assert_eq!(
            caller.call("text", &[ok(Val::String("it".to_owned()))]).expect("the failure is returned as a value"),
            Some(lost)
        );
    }
    caller.store.data_mut().answer = Box::new(plainly);
    answers(&mut caller);
}
