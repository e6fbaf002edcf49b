//! Tests the number of slots that is counted for an instance. The numbers of memories and tables must equal what the
//! instance uses in the pool; this is tested with random nested components. The number of stacks must be sufficient in
//! the worst case: a chain of components in which every function waits for the next one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod generate;

use std::sync::Arc;

use isomer_runtime::engine::{Engine, Footprint, PoolSizes, Slots, SlotsError};
use tokio::sync::Semaphore;
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use generate::Generator;

/// Returns the numbers of memories, tables, core instances and component instances that are currently in use in the
/// pool.
fn taken(engine: &Engine) -> (usize, usize, u64, u64) {
    let pool = engine.wasmtime().pooling_allocator_metrics().expect("the engine has a pool");
    (pool.memories(), pool.tables(), pool.core_instances(), pool.component_instances())
}

#[tokio::test]
async fn the_count_of_a_random_component_is_what_the_pool_takes() {
    let engine = Engine::new(PoolSizes::new(128)).unwrap();
    let linker = Linker::<()>::new(engine.wasmtime());
    let rounds = if std::env::var_os("ISOMER_LONG").is_some() { 20_000 } else { 300 };
    let first: u64 = std::env::var("ISOMER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut instantiated, mut most) = (0, 0);
    for seed in first..first + rounds {
        let text = Generator::new(seed).component();
        let what = || format!("ISOMER_SEED={seed}:\n{text}");
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{}", what()));
        let footprint = match Footprint::measure(&bytes) {
            Ok(footprint) => footprint,
            Err(SlotsError::TooMany { .. }) => continue,
            Err(error) => panic!("{error:?}\n{}", what()),
        };
        let component = Component::from_binary(engine.wasmtime(), &bytes);
        let component = component.unwrap_or_else(|error| panic!("{error:?}\n{}", what()));
        let mut store = Store::new(engine.wasmtime(), ());
        store.set_epoch_deadline(u64::MAX / 2);
        let made = linker.instantiate_async(&mut store, &component).await;
        made.unwrap_or_else(|error| panic!("{error:?}\n{}", what()));
        let Slots { memories, tables, .. } = footprint.slots;
        let counted = (memories as usize, tables as usize, u64::from(footprint.core_instances), 1);
        assert_eq!(counted, taken(&engine), "{}", what());
        instantiated += 1;
        most = most.max(memories);
        drop(store);
        assert_eq!(taken(&engine), (0, 0, 0, 0), "{}", what());
    }
    assert!(
        instantiated > rounds / 2 && most > 20,
        "only {instantiated} of {rounds} components were instantiated, with at most {most} memories"
    );
}

/// Returns a chain of components. The asynchronous function of each component calls that of the next component, and
/// keeps its stack while it waits.
fn chain(parts: usize) -> String {
    let part = |callee: &str| {
        format!(
            r#"
            (core func $next (canon lower (func {callee})))
            (core func $return (canon task.return))
            (core module $m
                (import "" "next" (func $next))
                (import "" "return" (func $return))
                (func (export "run") (result i32) (call $next) (call $return) (i32.const 0))
                (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m
                (with "" (instance (export "next" (func $next)) (export "return" (func $return))))))
            (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback"))))"#
        )
    };
    let mut text = r#"(component (import "wait" (func $wait async))"#.to_owned();
    let first = part("$wait");
    text += &format!(
        r#"(component $first (import "wait" (func $wait async)) {first})
           (instance $i0 (instantiate $first (with "wait" (func $wait))))"#
    );
    let next = part("$next");
    text += &format!(r#"(component $part (import "next" (func $next async)) {next})"#);
    for index in 1..parts {
        let before = index - 1;
        text += &format!(r#"(instance $i{index} (instantiate $part (with "next" (func $i{before} "run"))))"#);
    }
    text += &format!(r#"(export "run" (func $i{} "run")))"#, parts - 1);
    text
}

#[tokio::test]
async fn no_more_stacks_are_used_than_are_counted() {
    const PARTS: usize = 20;
    let engine = Engine::new(PoolSizes::new(128)).unwrap();
    let stacks = || engine.wasmtime().pooling_allocator_metrics().expect("the engine has a pool").stacks();
    let bytes = wat::parse_str(chain(PARTS)).unwrap();
    let slots = Slots::count(&bytes).unwrap();
    assert_eq!(
        slots.stacks as usize,
        PARTS + 2,
        "the count is not one stack for each part, one for the outer component, and one more"
    );
    let component = Component::from_binary(engine.wasmtime(), &bytes).unwrap();
    let mut linker = Linker::<()>::new(engine.wasmtime());
    let (waits, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let over = Arc::new(Semaphore::new(0));
    let until = over.clone();
    linker
        .root()
        .func_wrap_concurrent("wait", move |_, (): ()| {
            let (waits, until) = (waits.clone(), until.clone());
            Box::pin(async move {
                let _ = waits.send(());
                let _ = until.acquire().await;
                Ok(())
            })
        })
        .unwrap();
    let mut store = Store::new(engine.wasmtime(), ());
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
    // Some of these calls wait without a stack until they may enter the component.
    let calls = store.run_concurrent(async |accessor| {
        let calls = (0..10).map(|_| run.call_concurrent(accessor, ()));
        let calls = futures::future::join_all(calls);
        let watching = async {
            waiting.recv().await.unwrap();
            let most = stacks();
            over.close();
            most
        };
        let (results, most) = futures::future::join(calls, watching).await;
        results.into_iter().for_each(|result| result.unwrap());
        most
    });
    let most = calls.await.unwrap();
    assert!((PARTS..=slots.stacks as usize).contains(&most), "{most} stacks were used, but {slots:?} were counted");
}
