//! Tests that the stacks of guests that recurse deeply are charged while their instances exist, and returned to the
//! operating system afterwards. This is the only test in its program, because other tests would also use memory.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use support::{Bounds, LONG, account, ask, engine, guest};

/// The number of instances that exist at the same time.
const INSTANCES: u64 = 48;

/// The number of bytes that the process may grow by in addition to the measured stacks.
const SLACK_BYTES: u64 = 8 << 20;

/// Returns the resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Returns a handler that calls itself until about 400 KiB of its stack are in use. Each frame keeps 32 numbers that
/// are computed before the nested call and used after it.
fn recurses() -> String {
    let taken: String = (1..=32).map(|n| format!("(local.set {n} (call $next)) ")).collect();
    let used: String =
        (1..=32).map(|n| format!("(global.set $g (i64.xor (global.get $g) (local.get {n}))) ")).collect();
    let declared = "i64 ".repeat(32);
    format!(
        r#"(global $g (mut i64) (i64.const 0))
        (func $next (result i64)
            (global.set $g (i64.add (i64.mul (global.get $g) (i64.const 3)) (i64.const 1)))
            (global.get $g))
        (func $down (param i64) (local {declared})
            {taken}
            (if (i64.gt_s (local.get 0) (i64.const 0)) (then (call $down (i64.sub (local.get 0) (i64.const 1)))))
            {used})
        (func (export "handle") (param i32 i32) (call $down (i64.const 1300)))"#
    )
}

#[test]
fn deep_stacks_are_charged_and_released() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = engine(4 * u32::try_from(INSTANCES).unwrap());
        let account = account(1 << 40, Duration::MAX);
        let bounds = Bounds { account: account.clone(), ..Bounds::default() };
        let fields = recurses();
        // The first guest makes the allocations that happen only once, so that they are not measured.
        ask(&guest(&engine, &fields, &bounds), LONG).await.unwrap();
        let before = resident_bytes();
        // Each group keeps an idle instance with its stack.
        let mut groups = Vec::new();
        for _ in 0..INSTANCES {
            let group = guest(&engine, &fields, &bounds);
            ask(&group, LONG).await.unwrap();
            groups.push(group);
        }
        let grown = resident_bytes().saturating_sub(before);
        let charged = account.used().host_bytes;
        assert!(grown >= INSTANCES * (300 << 10), "the guests do not recurse as deeply as they should: {grown}");
        assert!(grown <= charged + SLACK_BYTES, "the process has grown by {grown} bytes, but {charged} were charged");
        drop(groups);
        let left = resident_bytes().saturating_sub(before);
        assert!(left <= INSTANCES * (64 << 10) + SLACK_BYTES, "{left} bytes are not returned to the system");
        assert_eq!(account.used().memory_bytes, 0);
    });
}
