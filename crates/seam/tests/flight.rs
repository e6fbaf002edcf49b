//! Tests a stub with many calls of `async func`s in flight: their results arrive in any order, and some calls are
//! cancelled.

mod support;

use std::task::Poll;

use futures::channel::oneshot;
use futures::future::join3;
use isomer_seam::{compose, stub};
use isomer_wire::image::{BASE, BLOCKS};
use support::crossing::{CallError, block_on, crossing_group, pass_on};
use support::{ALLOCATOR, component, components};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Result, Store};
use wit_component::StringEncoding;

const SLOW: &str = "slow: async func(text: string) -> string;";

/// A call that has started and has no result yet.
struct CallInFlight {
    ticket: u32,
    text: String,
    /// Sending on this channel makes the call return.
    done: oneshot::Sender<()>,
}

#[derive(Default)]
struct Host {
    in_flight: Vec<CallInFlight>,
    /// The results that the guest has not taken yet. Each has its call's ticket, the number by which the guest
    /// identifies the call.
    answers: Vec<(u32, String)>,
}

/// Returns the string in an image of arguments, which consist of one string.
fn text_of(image: &[u8]) -> String {
    let word = |place: usize| u32::from_le_bytes(image[place..place + 4].try_into().expect("the slice has four bytes"));
    assert_eq!(word(0), BLOCKS);
    // The blocks start after the root. The image of an empty text has no blocks, and ends after its root.
    let blocks = image.get((BLOCKS - BASE) as usize..).unwrap_or_default();
    assert_eq!(blocks.len(), word(4) as usize);
    String::from_utf8(blocks.to_vec()).expect("the text is UTF-8")
}

/// Returns the image of a result that is a string.
fn image_of(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    [&(BASE + 8).to_le_bytes()[..], &length.to_le_bytes(), text.as_bytes()].concat()
}

fn linker(engine: &Engine, name: &str) -> Linker<Host> {
    let mut linker = Linker::<Host>::new(engine);
    let mut wire = linker.instance(name).expect("the name is not defined yet");
    wire.func_wrap("call", |_, (_, _): (u32, Vec<u8>)| -> Result<(std::result::Result<Vec<u8>, CallError>,)> {
        panic!("a synchronous function was called")
    })
    .expect("the name is not defined yet");
    wire.func_wrap_concurrent("begin", |accessor, (ticket, _, image): (u32, u32, Vec<u8>)| {
        let (done, wait) = oneshot::channel();
        let in_flight = CallInFlight { ticket, text: text_of(&image), done };
        accessor.with(|mut access| access.data_mut().in_flight.push(in_flight));
        Box::pin(async move {
            wait.await.expect("the test lets the call return");
            Ok(())
        })
    })
    .expect("the name is not defined yet");
    wire.func_wrap("take", |mut store, (ticket,): (u32,)| {
        let answers = &mut store.data_mut().answers;
        let place = answers.iter().position(|(answered, _)| *answered == ticket).expect("the call has returned");
        Ok((Ok::<_, CallError>(image_of(&answers.swap_remove(place).1)),))
    })
    .expect("the name is not defined yet");
    wire.func_wrap("refuse", |_, (_,): (u32,)| -> Result<()> { Err(wasmtime::Error::msg("refused")) })
        .expect("the name is not defined yet");
    linker
}

#[test]
fn three_concurrent_calls_return_in_any_order() {
    let engine = Engine::default();
    let caller = pass_on(SLOW, "api", "front", StringEncoding::UTF8);
    let bytes = stub(&crossing_group("caller", &caller).stubs[0], &caller).expect("the stub can be generated");
    let compiled = Component::new(&engine, &bytes).expect("the component compiles");
    let mut store = Store::new(&engine, Host::default());
    let linker = linker(&engine, "isomer:link/wire@1.0.0");
    let instance =
        block_on(linker.instantiate_async(&mut store, &compiled)).expect("the component can be instantiated");
    let slow =
        instance.get_typed_func::<(String,), (String,)>(&mut store, "f0").expect("the component exports the function");
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let answers = block_on(store.run_concurrent(async |accessor| {
            let call = |text: &str| slow.call_concurrent(accessor, (text.to_owned(),));
            let calls = join3(call("one"), call("two, which is longer"), call(""));
            let answer = async {
                while accessor.with(|mut access| access.data_mut().in_flight.len()) < 3 {
                    let mut polled = false;
                    std::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
                let mut in_flight: Vec<_> =
                    accessor.with(|mut access| access.data_mut().in_flight.drain(..).map(Some).collect());
                for place in order {
                    let CallInFlight { ticket, text, done } =
                        in_flight[place].take().expect("each call is answered once");
                    accessor.with(|mut access| access.data_mut().answers.push((ticket, format!("{text}!"))));
                    done.send(()).expect("the call waits");
                }
            };
            let ((one, two, three), ()) = futures::join!(calls, answer);
            [one, two, three].map(|answer| answer.expect("the call returns").0)
        }))
        .expect("the call returns");
        assert_eq!(answers, ["one!", "two, which is longer!", "!"]);
    }
}

/// Calls `slow`, cancels the call while it waits, and returns how the call ended. Does this twice.
#[test]
fn cancelling_a_call_cancels_it_in_transit() {
    let wit = format!(
        "interface api {{ {SLOW} }} interface front {{ go: async func() -> u32; }} world w {{ import api; export front; }}"
    );
    let module = format!(
        r#"(module
            (import "test:app/api" "[async-lower]slow" (func $slow (param i32 i32 i32) (result i32)))
            (import "$root" "[subtask-cancel]" (func $cancel (param i32) (result i32)))
            (import "$root" "[subtask-drop]" (func $drop (param i32)))
            {ALLOCATOR}
            (func $once (result i32) (local $subtask i32) (local $state i32)
                (local.set $subtask (i32.shr_u (call $slow (i32.const 64) (i32.const 5) (i32.const 32)) (i32.const 4)))
                (local.set $state (call $cancel (local.get $subtask)))
                (call $drop (local.get $subtask))
                (local.get $state))
            (func (export "test:app/front#go") (result i32)
                (i32.add (i32.mul (call $once) (i32.const 10)) (call $once))))"#
    );
    let engine = Engine::default();
    let bytes = component("0.2.6", &wit, &module);
    let mut group = crossing_group("caller", &bytes);
    group.handlers = support::group(&[], &[], &[("caller", "test:app/front")]).handlers;
    let composition = compose(&group, &components(&[("caller", bytes)])).expect("the group composes");
    let compiled = Component::new(&engine, &composition.bytes).expect("the component compiles");
    let mut store = Store::new(&engine, Host::default());
    let linker = linker(&engine, "caller-isomer-link-wire");
    let instance =
        block_on(linker.instantiate_async(&mut store, &compiled)).expect("the component can be instantiated");
    let front =
        instance.get_export_index(&mut store, None, "caller-http-handler").expect("the composition has the export");
    let go = instance.get_export_index(&mut store, Some(&front), "go").expect("the export has the function");
    let go = instance.get_typed_func::<(), (u32,)>(&mut store, go).expect("the export is a function of this type");
    // Each of the two calls ends with state 4, which means that it was cancelled before it returned.
    assert_eq!(block_on(go.call_async(&mut store, ())).expect("the call returns").0, 44);
    let in_flight = &mut store.data_mut().in_flight;
    assert_eq!(in_flight.len(), 2);
    for call in in_flight.drain(..) {
        assert!(call.done.is_canceled(), "the host still works on the cancelled call `{}`", call.text.escape_debug());
    }
}
