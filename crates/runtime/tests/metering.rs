//! Tests that accounts are charged the processor time that the operating system reports for the process. This is the
//! only test in its program, because other tests would also use processor time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use isomer_runtime::Account;
use rustix::time::{ClockId, clock_gettime};
use support::{Bounds, LONG, ask, engine, guest};

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

/// Returns a handler that counts from 0 to `count`.
fn counts_to(count: u64) -> String {
    format!(
        r#"(func (export "handle") (param i32 i32) (local $n i64)
            (loop $again
                (local.set $n (i64.add (local.get $n) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $n) (i64.const {count})))))"#
    )
}

#[test]
fn accounts_are_charged_what_the_process_used() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = engine(64);
        let accounts = [Account::unlimited(), Account::unlimited()];
        let bounds = |account: usize| Bounds { account: accounts[account].clone(), ..Bounds::default() };
        // One tenant's requests compute for a long time in each poll. The other tenant has many requests with short
        // polls. There may be more threads than processors.
        let long = guest(&engine, &counts_to(300_000_000), &bounds(0));
        let short = guest(&engine, &counts_to(400_000), &bounds(1));
        ask(&short, LONG).await.unwrap();
        let before = (processor_time(), accounts.each_ref().map(|account| account.used().cpu));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let long = long.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..2 {
                    ask(&long, LONG).await.unwrap();
                }
            }));
            let short = short.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..400 {
                    ask(&short, LONG).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let process = processor_time() - before.0;
        let charged: Vec<_> =
            accounts.iter().zip(before.1).map(|(account, before)| account.used().cpu - before).collect();
        let sum = charged.iter().sum::<Duration>();
        assert!(process > Duration::from_millis(500), "the guests hardly worked: {process:?}");
        let part = sum.as_secs_f64() / process.as_secs_f64();
        // The host's own work for a request, about 15 µs in a test program, is not charged.
        assert!(
            (0.9..=1.05).contains(&part),
            "{charged:?} were charged, which is {part:.3} of the {process:?} that the process used"
        );
    });
}
