//! Tests that the host memory of a guest's tasks, streams and own handles is charged. The charge is compared with the
//! memory that is actually allocated. This is the only test in its program, because other tests would also allocate
//! memory.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use isomer_runtime::engine::Footprint;
use support::{Bounds, LONG, account, ask, engine, group, handler};

struct Counted;

/// The number of bytes that are allocated at present.
static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: all calls are passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller of this function guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller of this function guarantees what the system's allocator requires.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// The number of handles, or pairs of handles, of one kind that a guest creates. It is low enough for the instance to
/// be kept for reuse, because the instance must exist while it is measured.
const MADE: i32 = 2_500;

/// The minimum number of bytes that [`MADE`] handles occupy.
const HELD_MIN: i64 = 2_500 * 16;

/// Returns a component that calls the canonical built-in `make` [`MADE`] times. `types` defines the type that `make`
/// refers to. `result` is the result type of `make`, and `parameter` is its parameter in WAT notation. `types` and
/// `parameter` may be empty.
fn component(types: &str, make: &str, result: &str, parameter: &str) -> Vec<u8> {
    let inside = format!(
        r#"{types}
            (core func $make (canon {make}))
            (core module $m
                (import "" "make" (func $make {parameter} (result {result})))
                (func (export "handle") (param i32 i32) (local $n i32)
                    (loop $again
                        {argument}
                        (drop (call $make))
                        (local.set $n (i32.add (local.get $n) (i32.const 1)))
                        (br_if $again (i32.lt_u (local.get $n) (i32.const {MADE}))))))
            (core instance $i (instantiate $m (with "" (instance (export "make" (func $make))))))"#,
        argument = if parameter.is_empty() { "" } else { "(i32.const 7)" },
    );
    handler(&inside)
}

#[test]
fn the_host_memory_of_handles_is_charged() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kinds = [
        ("streams", component("(type $s (stream u8))", "stream.new $s", "i64", "")),
        ("futures", component("(type $f (future u8))", "future.new $f", "i64", "")),
        ("sets", component("", "waitable-set.new", "i32", "")),
        ("own resources", component("(type $r (resource (rep i32)))", "resource.new $r", "i32", "(param i32)")),
    ];
    let mut failed = Vec::new();
    for (kind, component) in kinds {
        let (held, charged) = runtime.block_on(hold(&component));
        assert!(held > HELD_MIN, "{kind}: only {held} bytes are held for {MADE} handles: was the instance dropped?");
        if held > charged {
            failed.push(format!("{kind}: {held} bytes are held for {MADE} handles, but {charged} are charged"));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Starts an instance that creates its handles. Returns the bytes that it holds, and the bytes that are charged to its
/// account, both without those of earlier instances.
async fn hold(component: &[u8]) -> (i64, i64) {
    let account = account(1 << 40, Duration::MAX);
    let state_bytes = Footprint::measure(component).unwrap().state_bytes;
    let engine = engine(4);
    let bounds = Bounds { account: account.clone(), state_bytes, ..Bounds::default() };
    let group = group(&engine, component, &bounds).unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    ask(&group, LONG).await.unwrap();
    let held = LIVE.load(Ordering::Relaxed) - before;
    let charged = i64::try_from(account.used().host_bytes).unwrap();
    (held, charged - stack_bytes())
}

/// Returns the charge for the guest's stack, which is not allocated by an allocator.
fn stack_bytes() -> i64 {
    576 << 10
}
