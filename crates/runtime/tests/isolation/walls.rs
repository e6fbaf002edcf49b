//! Tests of guests that use as many resources as they can get, and of the limits that stop them.

use std::time::{Duration, Instant};

use isomer_runtime::Failure;
use isomer_runtime::group::GroupError;

use crate::support::{self, Bounds, LONG, TestEngine, account, ask, component, group, guest};

const NOTHING: &str = r#"(func (export "handle") (param i32 i32))"#;

fn engine() -> TestEngine {
    support::engine(32)
}

#[tokio::test]
async fn memory_ends_at_the_limit() {
    let fields = r#"(memory 1)
        (func (export "handle") (param i32 i32)
            (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
            unreachable)"#;
    let failure = ask(&guest(&engine(), fields, &Bounds::default()), LONG).await;
    assert!(matches!(failure, Err(Failure::Memory { limit_bytes: 0x400_0000, .. })), "{failure:?}");
}

#[tokio::test]
async fn tables_count_as_memory() {
    let fields = r#"(table $t 0 funcref)
        (func (export "handle") (param i32 i32)
            (loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
            unreachable)"#;
    let bounds = Bounds { memory_bytes: 1 << 20, ..Bounds::default() };
    let failure = ask(&guest(&engine(), fields, &bounds), LONG).await;
    assert!(matches!(failure, Err(Failure::Memory { limit_bytes: 0x10_0000, .. })), "{failure:?}");
}

#[tokio::test]
async fn an_instance_that_starts_out_too_large_is_refused() {
    let fields = format!("(memory 2000) {NOTHING}");
    let failure = ask(&guest(&engine(), &fields, &Bounds::default()), LONG).await;
    assert!(matches!(&failure, Err(Failure::Instantiate { reason }) if reason.contains("64 MiB")), "{failure:?}");
}

#[test]
fn a_component_of_many_memories_is_refused_when_it_is_linked() {
    let engine = engine();
    // Returns the content of a component with this number of memories, in addition to the memory that every such
    // component has for its result. A group may use only a part of the pool's memories, of which there are only a few
    // times as many as instances.
    let fields = |memories: usize| format!("{} {NOTHING}", "(memory 1)".repeat(memories));
    let tenant = || Bounds { account: account(1 << 40, Duration::MAX), ..Bounds::default() };
    assert!(group(&engine, &component(&fields(2)), &tenant()).is_ok());
    let refused = group(&engine, &component(&fields(100)), &tenant());
    assert!(matches!(&refused, Err(GroupError::TooLarge { slots }) if slots.memories == 101), "{:?}", refused.err());
}

#[tokio::test]
async fn a_loop_ends_at_its_deadline() {
    let fields = r#"(func (export "handle") (param i32 i32) (loop $again (br $again)))"#;
    let began = Instant::now();
    let failure = ask(&guest(&engine(), fields, &Bounds::default()), Duration::from_millis(100)).await;
    assert!(matches!(failure, Err(Failure::Deadline { .. })), "{failure:?}");
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn a_loop_in_a_start_function_ends_at_the_deadline() {
    let fields = format!("(func $start (loop $again (br $again))) (start $start) {NOTHING}");
    let group = guest(&engine(), &fields, &Bounds::default());
    for _ in 0..3 {
        let failure = ask(&group, Duration::from_millis(50)).await;
        assert!(
            matches!(&failure, Err(Failure::Instantiate { reason }) if reason.starts_with("it has not started within")),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn recursion_ends_at_the_end_of_the_stack() {
    let fields = r#"(func $deeper (param i64) (call $deeper (i64.add (local.get 0) (i64.const 1))))
        (func (export "handle") (param i32 i32) (call $deeper (i64.const 0)))"#;
    let group = guest(&engine(), fields, &Bounds::default());
    for _ in 0..3 {
        let failure = ask(&group, LONG).await;
        assert!(matches!(&failure, Err(Failure::Trap { reason, .. }) if reason.contains("stack")), "{failure:?}");
    }
}
