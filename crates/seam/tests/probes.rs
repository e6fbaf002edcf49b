//! Tests that a probed composition returns the same results as the plain one, and reports every fused call.

mod support;

use std::sync::Arc;

use isomer_plan::PlannedGroup;
use isomer_seam::{ProbedFunction, compose_probed};
use support::crossing::pass_on;
use support::probed::{plain, probed};
use support::shapes::{Random, Shapes, long, seed};
use support::{ALLOCATOR, component, components, group, name, shared};
use wasmtime::component::Val;
use wit_component::StringEncoding;

/// Returns the group of `api` and `front`, in which `front` imports `test:app/api` from `api`.
fn pair() -> PlannedGroup {
    group(&["api", "front"], &[("front", "test:app/api", "api", "test:app/api")], &[("front", "test:app/front")])
}

fn api(functions: &str, module: &str) -> Arc<[u8]> {
    let wit = format!("interface api {{ {functions} }} world w {{ export api; }}");
    component("0.2.6", &wit, &format!("(module {ALLOCATOR} {module})"))
}

/// Returns a component that exports `go`, which calls functions of `test:app/api`. `imports` are the imports of its
/// core module, which must precede the module's other items.
fn front(functions: &str, go: &str, imports: &str, module: &str) -> Arc<[u8]> {
    let wit = format!(
        "interface api {{ {functions} }} interface front {{ go: {go}; }} world w {{ import api; export front; }}"
    );
    component("0.2.6", &wit, &format!("(module {imports} {ALLOCATOR} {module})"))
}

fn string(text: &str) -> Val {
    Val::String(text.to_owned())
}

#[test]
fn a_chain_of_calls_is_reported_in_order() {
    let say = "say: func(text: string) -> string;";
    let utf8 = StringEncoding::UTF8;
    let last = api(
        say,
        r#"(func (export "test:app/api#say") (param i32 i32) (result i32)
            (i32.store (i32.const 64) (local.get 0)) (i32.store (i32.const 68) (local.get 1)) (i32.const 64))
           (func (export "cabi_post_test:app/api#say") (param i32)
            (if (i32.ne (local.get 0) (i32.const 64)) (then unreachable)))"#,
    );
    let parts = components(&[
        ("last", last),
        ("middle", pass_on(say, "api", "between", utf8)),
        ("front", pass_on(say, "between", "front", utf8)),
    ]);
    let links = [
        ("middle", "test:app/api", "last", "test:app/api"),
        ("front", "test:app/between", "middle", "test:app/between"),
    ];
    let group = group(&["last", "middle", "front"], &links, &[("front", "test:app/front")]);
    let mut probed = probed(&group, &parts);
    let function = |caller: &str, component: &str, interface: &str| ProbedFunction {
        callers: vec![name(caller)],
        component: name(component),
        interface: interface.to_owned(),
        function: "say".to_owned(),
    };
    assert_eq!(
        probed.functions,
        [function("middle", "last", "test:app/api"), function("front", "middle", "test:app/between")]
    );
    for text in ["", "hello", "grün"] {
        let result = plain(&group, &parts).call("say", &[string(text)]).expect("the call returns");
        assert_eq!(result, Some(string(text)));
        assert_eq!(probed.call("say", &[string(text)]).expect("the call returns"), result);
        assert_eq!(probed.calls(), ["> middle.say", "> last.say", "< last.say", "< middle.say"]);
    }
    // Each call has its own task. The list `tasks` of a report begins with the task of the call, and the tasks of its
    // callers follow.
    probed.call("say", &[string("")]).expect("the call returns");
    let reports = probed.reports();
    let depths: Vec<_> = reports.iter().map(|report| report.tasks.len()).collect();
    assert_eq!(depths, [2, 3, 3, 2]);
    assert_eq!(reports[1].tasks[1..], reports[0].tasks);
    assert_eq!(reports[1].tasks, reports[2].tasks);
}

/// The callee yields before it returns, so its callback continues the calls.
const YIELDING: &str = r#"
    (func (export "[async-lift]test:app/api#slow") (param i32) (result i32)
        (global.set $argument (local.get 0))
        (i32.const 1))
    (func (export "[callback][async-lift]test:app/api#slow") (param i32 i32 i32) (result i32)
        (global.set $polls (i32.add (global.get $polls) (i32.const 1)))
        (if (i32.rem_u (global.get $polls) (i32.const 3)) (then (return (i32.const 1))))
        (call $return (global.get $argument))
        (i32.const 0))
    (global $argument (mut i32) (i32.const 0))
    (global $polls (mut i32) (i32.const 0))
"#;

fn yielding(functions: &str) -> Arc<[u8]> {
    let wit = format!("interface api {{ {functions} }} world w {{ export api; }}");
    let imports = r#"(import "[export]test:app/api" "[task-return]slow" (func $return (param i32)))"#;
    component("0.2.6", &wit, &format!("(module {imports} {ALLOCATOR} {YIELDING})"))
}

const SLOW: &str = "slow: async func(a: u32) -> u32;";

#[test]
fn an_async_function_ends_when_its_task_ends() {
    let front = front(
        SLOW,
        "async func() -> u32",
        r#"(import "test:app/api" "slow" (func $slow (param i32) (result i32)))"#,
        r#"(func (export "test:app/front#go") (result i32)
            (i32.add (call $slow (i32.const 3)) (call $slow (i32.const 4))))"#,
    );
    let parts = components(&[("api", yielding(SLOW)), ("front", front)]);
    let mut probed = probed(&pair(), &parts);
    let expected = plain(&pair(), &parts).call("go", &[]).expect("the call returns");
    assert_eq!(expected, Some(Val::U32(7)));
    assert_eq!(probed.call("go", &[]).expect("the call returns"), expected);
    assert_eq!(probed.calls(), ["> api.slow", "< api.slow", "> api.slow", "< api.slow"]);
}

/// Two calls overlap. The tasks tell them apart.
#[test]
fn calls_in_flight_are_told_apart_by_their_tasks() {
    let front = front(
        SLOW,
        "async func()",
        r#"(import "test:app/api" "[async-lower]slow" (func $slow (param i32 i32) (result i32)))
           (import "$root" "[waitable-set-new]" (func $new (result i32)))
           (import "$root" "[waitable-join]" (func $join (param i32 i32)))
           (import "$root" "[waitable-set-wait]" (func $wait (param i32 i32) (result i32)))"#,
        r#"(func $start (param $set i32)
            (call $join (i32.shr_u (call $slow (i32.const 1) (i32.const 64)) (i32.const 4)) (local.get $set)))
           (func (export "test:app/front#go") (local $set i32)
            (local.set $set (call $new))
            (call $start (local.get $set))
            (call $start (local.get $set))
            (drop (call $wait (local.get $set) (i32.const 128)))
            (drop (call $wait (local.get $set) (i32.const 128))))"#,
    );
    let mut probed = probed(&pair(), &components(&[("api", yielding(SLOW)), ("front", front)]));
    probed.call("go", &[]).expect("the call returns");
    let reports = probed.reports();
    let kinds: Vec<_> = reports.iter().map(|report| report.kind).collect();
    assert_eq!(kinds, ["enter", "enter", "exit", "exit"]);
    let [first, second, ..] = &reports[..] else { panic!("there are four reports") };
    assert_ne!(first.tasks[0], second.tasks[0]);
    assert_eq!(first.tasks[1..], second.tasks[1..]);
    for entered in [first, second] {
        assert!(reports[2..].iter().any(|exit| exit.tasks[0] == entered.tasks[0]), "{reports:?}");
    }
}

#[test]
fn a_trap_reports_no_end() {
    let functions = "fail: func(); work: func() -> u32;";
    let api = api(
        functions,
        r#"(func (export "test:app/api#fail") unreachable)
           (func (export "test:app/api#work") (result i32) (i32.const 7))"#,
    );
    let front = front(
        functions,
        "func() -> u32",
        r#"(import "test:app/api" "fail" (func $fail)) (import "test:app/api" "work" (func $work (result i32)))"#,
        r#"(func (export "test:app/front#go") (result i32) (drop (call $work)) (call $fail) (call $work))"#,
    );
    let mut probed = probed(&pair(), &components(&[("api", api), ("front", front)]));
    probed.call("go", &[]).expect_err("the callee traps");
    assert_eq!(probed.calls(), ["> api.work", "< api.work", "> api.fail"]);
}

#[test]
fn resources_are_probed() {
    let functions =
        "resource counter { constructor(start: u32); add: func(by: u32) -> u32; zero: static func() -> counter; }
        make: func() -> counter;";
    let wit = format!("interface api {{ {functions} }} world w {{ export api; }}");
    let module = format!(
        r#"(module
            (import "[export]test:app/api" "[resource-new]counter" (func $new (param i32) (result i32)))
            {ALLOCATOR}
            (global $value (mut i32) (i32.const 0))
            (func (export "test:app/api#[constructor]counter") (param i32) (result i32)
                (global.set $value (local.get 0)) (call $new (i32.const 5)))
            (func (export "test:app/api#[method]counter.add") (param i32 i32) (result i32)
                (if (i32.ne (local.get 0) (i32.const 5)) (then unreachable))
                (global.set $value (i32.add (global.get $value) (local.get 1))) (global.get $value))
            (func (export "test:app/api#[static]counter.zero") (result i32) (call $new (i32.const 5)))
            (func (export "test:app/api#make") (result i32) (call $new (i32.const 5)))
            (func (export "test:app/api#[dtor]counter") (param i32)
                (global.set $value (i32.const 100))))"#
    );
    let front = front(
        functions,
        "func() -> u32",
        r#"(import "test:app/api" "[constructor]counter" (func $new (param i32) (result i32)))
           (import "test:app/api" "[method]counter.add" (func $add (param i32 i32) (result i32)))
           (import "test:app/api" "make" (func $make (result i32)))
           (import "test:app/api" "[resource-drop]counter" (func $drop (param i32)))"#,
        r#"(func (export "test:app/front#go") (result i32) (local $counter i32)
            (local.set $counter (call $new (i32.const 1)))
            (drop (call $add (local.get $counter) (i32.const 2)))
            (call $drop (local.get $counter))
            (call $add (call $make) (i32.const 3)))"#,
    );
    let parts = components(&[("api", component("0.2.6", &wit, &module)), ("front", front)]);
    let mut probed = probed(&pair(), &parts);
    // Functions that no component of the group imports are not probed.
    assert_eq!(probed.functions.len(), 3);
    let expected = plain(&pair(), &parts).call("go", &[]).expect("the call returns");
    assert_eq!(expected, Some(Val::U32(103)));
    assert_eq!(probed.call("go", &[]).expect("the call returns"), expected);
    let calls = ["[constructor]counter", "[method]counter.add", "make", "[method]counter.add"];
    let calls: Vec<_> = calls.iter().flat_map(|call| [format!("> api.{call}"), format!("< api.{call}")]).collect();
    assert_eq!(probed.calls(), calls);
}

/// The callee returns a stream and closes the writable end. The caller sees that the stream has ended.
#[test]
fn streams_are_probed() {
    let functions = "numbers: func() -> stream<u8>;";
    let wit = format!("interface api {{ {functions} }} world w {{ export api; }}");
    let module = format!(
        r#"(module
            (import "[export]test:app/api" "[stream-new-0]numbers" (func $new (result i64)))
            (import "[export]test:app/api" "[stream-drop-writable-0]numbers" (func $close (param i32)))
            (import "[export]test:app/api" "[stream-cancel-write-0]numbers" (func $cancel (param i32) (result i32)))
            {ALLOCATOR}
            (func (export "test:app/api#numbers") (result i32) (local $ends i64)
                (local.set $ends (call $new))
                (call $close (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
                (i32.wrap_i64 (local.get $ends))))"#
    );
    let front = front(
        functions,
        "async func() -> u32",
        r#"(import "test:app/api" "numbers" (func $numbers (result i32)))
           (import "test:app/api" "[async-lower][stream-read-0]numbers" (func $read (param i32 i32 i32) (result i32)))"#,
        r#"(func (export "test:app/front#go") (result i32)
            (call $read (call $numbers) (i32.const 64) (i32.const 8)))"#,
    );
    let parts = components(&[("api", component("0.2.6", &wit, &module)), ("front", front)]);
    let mut probed = probed(&pair(), &parts);
    let expected = plain(&pair(), &parts).call("go", &[]).expect("the call returns");
    // `go` returns the code of the read: the writable end was dropped, and no value was read.
    assert_eq!(expected, Some(Val::U32(1)));
    assert_eq!(probed.call("go", &[]).expect("the call returns"), expected);
    assert_eq!(probed.calls(), ["> api.numbers", "< api.numbers"]);
}

/// Probes report calls by numbers, which are different for each component. So if two components have the same bytes,
/// these bytes are nested twice, with different probes.
#[test]
fn the_same_bytes_twice_are_reported_as_two_components() {
    let functions = "work: func() -> u32;";
    let work = api(functions, r#"(func (export "test:app/api#work") (result i32) (i32.const 7))"#);
    let wit = "interface front { go: func() -> u32; } world w { import one; import two; export front; }
        interface one { work: func() -> u32; } interface two { work: func() -> u32; }";
    let front = component(
        "0.2.6",
        wit,
        &format!(
            r#"(module (import "test:app/one" "work" (func $one (result i32)))
                (import "test:app/two" "work" (func $two (result i32))) {ALLOCATOR}
                (func (export "test:app/front#go") (result i32) (i32.add (call $one) (call $two))))"#
        ),
    );
    let links = [("front", "test:app/one", "one", "test:app/api"), ("front", "test:app/two", "two", "test:app/api")];
    let group = group(&["one", "two", "front"], &links, &[("front", "test:app/front")]);
    let mut probed = probed(&group, &components(&[("one", work.clone()), ("two", work), ("front", front)]));
    assert_eq!(probed.call("go", &[]).expect("the call returns"), Some(Val::U32(14)));
    assert_eq!(probed.calls(), ["> one.work", "< one.work", "> two.work", "< two.work"]);
}

/// A group without seams has no probes, and its composition is the plain one.
#[test]
fn a_group_without_seams_has_no_probes() {
    let work = api("work: func() -> u32;", r#"(func (export "test:app/api#work") (result i32) (i32.const 7))"#);
    let parts = components(&[("front", work)]);
    let group = group(&["front"], &[], &[("front", "test:app/api")]);
    let probed = compose_probed(&group, &parts).expect("the group composes");
    assert_eq!((probed.functions.len(), probed.unprobed.len()), (0, 0));
    assert_eq!(probed.composition.bytes, parts[&name("front")].to_vec());
}

/// Calls functions with random types in plain and probed compositions.
///
/// `ISOMER_SEED=n` starts with another seed. `ISOMER_LONG=1` generates more functions.
#[test]
fn functions_of_random_types_return_the_same_results() {
    for number in 0..if long() { 200 } else { 8 } {
        let seed = seed(6_000) + number;
        let mut random = Random(seed);
        let mut shapes = Shapes::default();
        let kind = ["", "async"][random.below(2)];
        let (mut functions, mut parameters) = (String::new(), vec![]);
        for number in 0..8 {
            let depth = random.below(4);
            let shape = shapes.shape(&mut random, depth);
            functions += &format!("f{number}: {kind} func(a: {0}, b: u64) -> {0};\n", shape.text());
            parameters.push(shape);
        }
        let text = format!("{}{functions}", shapes.definitions);
        let encodings = [StringEncoding::UTF8, StringEncoding::UTF16, StringEncoding::CompactUTF16];
        let encoding = encodings[random.below(3)];
        let parts = components(&[
            ("api", pass_on(&text, "back", "api", encoding)),
            ("front", pass_on(&text, "api", "front", StringEncoding::UTF8)),
        ]);
        let mut group = pair();
        shared(&mut group, "api", "test:app/back");
        let (mut plain, mut probed) = (plain(&group, &parts), probed(&group, &parts));
        for (number, shape) in parameters.iter().enumerate() {
            let arguments = [shape.value(&mut random), Val::U64(random.next())];
            let function = format!("f{number}");
            let context = || format!("ISOMER_SEED={seed}, {function}\n{text}");
            let expected = plain.call(&function, &arguments).unwrap_or_else(|error| panic!("{error:?}, {}", context()));
            let result = probed.call(&function, &arguments).unwrap_or_else(|error| panic!("{error:?}, {}", context()));
            assert_eq!(result, expected, "{}", context());
            assert_eq!(result.as_ref(), Some(&arguments[0]), "{}", context());
            assert_eq!(probed.calls(), [format!("> api.{function}"), format!("< api.{function}")]);
        }
    }
}
