//! Tests components with unusual binaries: they are rewritten without a change of their meaning, or not probed.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;
use isomer_seam::{compose, compose_probed};
use support::probed::{PROBE, plain, probed};
use support::{ALLOCATOR, component, components, group, name, shared};
use wasmtime::component::Val;

/// A component with items of every kind after the function `work` of `test:app/api`. `second` of `test:app/later`
/// comes from a core instance that is created after `work`, and `third` of `test:app/nested` from a nested component.
const ODD: &str = r#"(component
    (core module $m (func (export "work") (result i32) i32.const 7) (func (export "end") (param i32)))
    (core instance $i (instantiate $m))
    (core module $late_module (func (export "work") (result i32) i32.const 8))
    (func $work (result u32) (canon lift (core func $i "work")))
    (type $numbers (stream u8))
    (type $number (future u16))
    (type $counter (resource (rep i32) (dtor (core func $i "end"))))
    (core func $cancel (canon stream.cancel-read $numbers))
    (core func $cancel_write (canon stream.cancel-write $numbers))
    (core func $cancel_number (canon future.cancel-read $number))
    (core func $cancel_number_write (canon future.cancel-write $number))
    (core func $new (canon resource.new $counter))
    (component $nested
        (alias outer 1 $numbers (type $outer))
        (alias outer 1 $m (core module $outer_module))
        (type $it (instance (alias outer 2 $number (type $outer)) (export "number" (type (eq $outer)))))
        (core instance $i (instantiate $outer_module))
        (func $work (result u32) (canon lift (core func $i "work")))
        (export "work" (func $work)))
    (instance $nested (instantiate $nested))
    (core module $user
        (import "a" "cancel" (func (param i32) (result i32)))
        (import "a" "cancel-write" (func (param i32) (result i32)))
        (import "a" "cancel-number" (func (param i32) (result i32)))
        (import "a" "cancel-number-write" (func (param i32) (result i32)))
        (import "a" "new" (func (param i32) (result i32)))
        (import "late" "work" (func $late (result i32)))
        (func (export "second") (result i32) (i32.add (call $late) (i32.const 1))))
    (core instance $late (instantiate $late_module))
    (core instance $user (instantiate $user
        (with "late" (instance $late))
        (with "a" (instance (export "cancel" (func $cancel)) (export "cancel-write" (func $cancel_write))
            (export "cancel-number" (func $cancel_number)) (export "cancel-number-write" (func $cancel_number_write))
            (export "new" (func $new))))))
    (func $second (result u32) (canon lift (core func $user "second")))
    (alias export $nested "work" (func $third))
    (instance $later (export "second" (func $second)))
    (export "test:app/later" (instance $later))
    (instance $of_nested (export "third" (func $third)))
    (export "test:app/nested" (instance $of_nested))
    (instance $api (export "work" (func $work)))
    (export "test:app/api" (instance $api)))"#;

fn odd() -> Arc<[u8]> {
    wat::parse_str(ODD).expect("the text is right").into()
}

/// Returns a group of the component [`ODD`] and a component whose function `go` combines the results of the given
/// functions of `ODD` into one number: each result is a decimal digit.
fn odd_pair(functions: &[(&str, &str)]) -> (PlannedGroup, BTreeMap<ComponentName, Arc<[u8]>>) {
    let (mut wit, mut world, mut imports, mut body) = (String::new(), String::new(), String::new(), String::new());
    let mut planned = group(&["api", "front"], &[], &[("front", "test:app/front")]);
    for (interface, function) in functions {
        wit += &format!("interface {interface} {{ {function}: func() -> u32; }}\n");
        world += &format!("import {interface};\n");
        imports += &format!("(import \"test:app/{interface}\" \"{function}\" (func ${function} (result i32)))\n");
        body += &format!("(local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 10)) (call ${function})))\n");
        let id = format!("test:app/{interface}");
        planned.links.extend(group(&[], &[("front", &id, "api", &id)], &[]).links);
    }
    let front = component(
        "0.2.6",
        &format!("{wit} interface front {{ go: func() -> u32; }} world w {{ {world} export front; }}"),
        &format!(
            r#"(module {imports} {ALLOCATOR}
                (func (export "test:app/front#go") (result i32) (local $sum i32) {body} (local.get $sum)))"#
        ),
    );
    (planned, components(&[("api", odd()), ("front", front)]))
}

/// Items after the inserted ones have higher indices, also where nested components and types refer to them.
#[test]
fn items_after_the_probes_keep_their_meaning() {
    let (group, parts) = odd_pair(&[("api", "work")]);
    let mut probed = probed(&group, &parts);
    assert_eq!(probed.call("go", &[]).expect("the call returns"), Some(Val::U32(7)));
    assert_eq!(probed.calls(), ["> api.work", "< api.work"]);
}

#[test]
fn a_component_of_an_unsupported_shape_is_composed_unchanged() {
    for (functions, result, reason) in [
        (&[("api", "work"), ("later", "second")][..], 79, "is created after another function was exported"),
        (
            &[("nested", "third")],
            7,
            "`third` of `test:app/nested` is not implemented in the component's outermost level",
        ),
        (&[("api", "work"), ("nested", "third")], 77, "`third` of `test:app/nested`"),
    ] {
        let (group, parts) = odd_pair(functions);
        let composed = compose_probed(&group, &parts).expect("the group composes");
        assert_eq!(composed.functions, []);
        let [unprobed] = composed.unprobed.as_slice() else { panic!("one component is not probed") };
        assert_eq!(unprobed.component, name("api"));
        assert!(unprobed.reason.contains(reason), "{}", unprobed.reason);
        let plain_bytes = compose(&group, &parts).expect("the group composes").bytes;
        assert_eq!(composed.composition.bytes, plain_bytes);
        assert_eq!(plain(&group, &parts).call("go", &[]).expect("the call returns"), Some(Val::U32(result)));
    }
}

/// The probes are inserted directly before `second`, the first function that is probed. So `second` can be probed
/// although its core instance is created only after another function, `work`, is lifted.
#[test]
fn the_probes_are_inserted_before_the_first_probed_function() {
    let (group, parts) = odd_pair(&[("later", "second")]);
    let mut probed = probed(&group, &parts);
    assert_eq!(probed.call("go", &[]).expect("the call returns"), Some(Val::U32(9)));
    assert_eq!(probed.calls(), ["> api.second", "< api.second"]);
}

#[test]
fn a_component_that_imports_the_probes_is_not_probed() {
    let text = r#"(component
        (import "isomer:probe/probe@1.0.0" (instance))
        (core module $m (func (export "work") (result i32) i32.const 7))
        (core instance $i (instantiate $m))
        (func $work (result u32) (canon lift (core func $i "work")))
        (instance $api (export "work" (func $work)))
        (export "test:app/api" (instance $api)))"#;
    let api: Arc<[u8]> = wat::parse_str(text).expect("the text is right").into();
    let (mut group, mut parts) = odd_pair(&[("api", "work")]);
    shared(&mut group, "api", PROBE);
    parts.insert(name("api"), api);
    let unprobed = compose_probed(&group, &parts).expect("the group composes");
    assert_eq!(unprobed.functions, []);
    assert!(unprobed.unprobed[0].reason.contains(PROBE), "{}", unprobed.unprobed[0].reason);
}
