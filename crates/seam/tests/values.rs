//! Tests that values of generated interfaces are unchanged after a call, fused and through a stub and a skeleton.
//!
//! `ISOMER_SEED=n` starts with another seed. `ISOMER_LONG=1` generates thousands of shapes instead of hundreds.

mod support;

use support::crossing::{Caller, callee, caller};
use support::shapes::{Random, Shape, Shapes, long, seed};
use wasmtime::Engine;
use wasmtime::component::Val;
use wit_component::StringEncoding;

const PACKAGES: u64 = 24;
const PACKAGES_LONG: u64 = 400;
const FUNCTIONS: usize = 14;
const CALLS: usize = 4;

struct Interface {
    text: String,
    /// The parameters of each function. The result has the type of the first parameter.
    functions: Vec<Vec<Shape>>,
}

fn interface(random: &mut Random, kind: &str) -> Interface {
    let mut shapes = Shapes::default();
    let (mut text, mut functions) = (String::new(), vec![]);
    for number in 0..FUNCTIONS {
        let count = [1, 1, 1, 2, 3, 6][random.below(6)];
        let parameters: Vec<_> = (0..count)
            .map(|_| {
                let depth = random.below(4);
                shapes.shape(random, depth)
            })
            .collect();
        let written: Vec<_> =
            parameters.iter().enumerate().map(|(place, shape)| format!("p{place}: {}", shape.text())).collect();
        text += &format!("f{number:02}: {kind} func({}) -> {};\n", written.join(", "), parameters[0].text());
        functions.push(parameters);
    }
    Interface { text: format!("{}{text}", shapes.definitions), functions }
}

fn calls(caller: &mut Caller, random: &mut Random, interface: &Interface, note: &str) {
    for (number, parameters) in interface.functions.iter().enumerate() {
        for _ in 0..CALLS {
            let arguments: Vec<Val> = parameters.iter().map(|shape| shape.value(random)).collect();
            let result = caller.call(&format!("f{number:02}"), &arguments);
            let result = result.unwrap_or_else(|error| panic!("{note}, f{number:02}: {error:?}\n{}", interface.text));
            assert_eq!(result.as_ref(), Some(&arguments[0]), "{note}, f{number:02}\n{}", interface.text);
            let seen = caller.store.data_mut().callee().store.data_mut().calls.pop();
            assert_eq!(seen.as_ref(), Some(&arguments), "{note}, f{number:02}\n{}", interface.text);
        }
    }
}

fn runs(kind: &str, first: u64, encodings: [StringEncoding; 2]) {
    let engine = Engine::default();
    let packages = if long() { PACKAGES_LONG } else { PACKAGES } / 4;
    for seed in seed(first)..seed(first) + packages {
        let note = format!("ISOMER_SEED={seed}");
        let mut random = Random(seed);
        let interface = interface(&mut random, kind);
        let callee = callee(&engine, &interface.text, encodings[1]);
        let mut caller = caller(&engine, &interface.text, encodings[0], callee);
        calls(&mut caller, &mut random, &interface, &note);
    }
}

#[test]
fn synchronous_functions() {
    runs("", 1_000, [StringEncoding::UTF8; 2]);
}

#[test]
fn asynchronous_functions() {
    runs("async", 2_000, [StringEncoding::UTF8; 2]);
}

#[test]
fn values_of_a_utf16_caller_and_a_latin1_callee() {
    runs("", 3_000, [StringEncoding::UTF16, StringEncoding::CompactUTF16]);
}

#[test]
fn values_of_a_latin1_caller_and_a_utf16_callee() {
    runs("async", 4_000, [StringEncoding::CompactUTF16, StringEncoding::UTF16]);
}

/// Tests that random images, and valid images with a few changed bytes, never cause a trap: each is either refused or
/// accepted as valid.
#[test]
fn random_images_are_refused_or_valid() {
    let engine = Engine::default();
    let (packages, images) = if long() { (40, 20_000) } else { (4, 500) };
    for seed in seed(5_000)..seed(5_000) + packages {
        let note = format!("ISOMER_SEED={seed}");
        let mut random = Random(seed);
        let interface = interface(&mut random, "");
        let utf8 = StringEncoding::UTF8;
        let mut caller = caller(&engine, &interface.text, utf8, callee(&engine, &interface.text, utf8));
        calls(&mut caller, &mut random, &interface, &note);
        // Images of arguments and of results alternate. Only the images of arguments are used.
        let right: Vec<_> = std::mem::take(&mut caller.store.data_mut().images).into_iter().step_by(2).collect();
        for _ in 0..images {
            let place = random.below(right.len());
            let mut image = right[place].clone();
            match random.below(8) {
                0 => image = (0..random.below(400)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect(),
                1 => image.truncate(random.below(image.len() + 1)),
                _ => {
                    for _ in 0..=random.below(3) {
                        if image.is_empty() {
                            continue;
                        }
                        let at = random.below(image.len());
                        let edges = [0, 1, 4, 8, 64, 127, 128, 192, 255];
                        image[at] = match random.below(2) {
                            0 => edges[random.below(edges.len())],
                            _ => image[at] ^ (1 << random.below(8)),
                        };
                    }
                }
            }
            let function = u32::try_from(place / CALLS).expect("few functions");
            let answer = caller.store.data_mut().callee().call(function, image.clone());
            assert!(answer.is_ok(), "{note}: {:?}\n{image:?}\n{}", answer.err(), interface.text);
            caller.store.data_mut().callee().store.data_mut().calls.clear();
        }
        calls(&mut caller, &mut random, &interface, &note);
    }
}
