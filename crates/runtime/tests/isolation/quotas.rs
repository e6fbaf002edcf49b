//! Tests of an account's quotas, and of the resources that remain for other accounts.

use std::time::{Duration, Instant};

use isomer_api::Quota;
use isomer_runtime::{Account, Failure};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{Bounds, LONG, account, ask, engine, guest, until};

const PAGE: u64 = 65536;
const NOTHING: &str = r#"(func (export "handle") (param i32 i32))"#;
const FOR_EVER: &str = r#"(func (export "handle") (param i32 i32) (loop $again (br $again)))"#;

/// Returns the number of pages of memory that the guests of `account` use at present.
fn pages(account: &Account) -> u64 {
    let used = account.used();
    (used.memory_bytes - used.host_bytes) / PAGE
}

fn bounds(account: &std::sync::Arc<Account>) -> Bounds {
    Bounds { account: account.clone(), ..Bounds::default() }
}

#[tokio::test]
async fn idle_instances_are_charged_and_evicted_before_anything_is_refused() {
    let engine = engine(32);
    // In addition to its own memory, ten pages of host memory are charged for an instance, most of them for its stack.
    let account = account(24 * PAGE, Duration::MAX);
    let (first, second) = (format!("(memory 10) {NOTHING}"), format!("(memory 12) {NOTHING}"));
    let (first, second) = (guest(&engine, &first, &bounds(&account)), guest(&engine, &second, &bounds(&account)));
    ask(&first, LONG).await.unwrap();
    assert_eq!(pages(&account), 10, "an idle instance is not charged");
    ask(&second, LONG).await.unwrap();
    assert_eq!(pages(&account), 12, "the idle instance was not evicted");
    let too_much = guest(&engine, &format!("(memory 16) {NOTHING}"), &bounds(&account));
    let failure = ask(&too_much, LONG).await;
    assert!(matches!(failure, Err(Failure::Quota { quota: Quota::Memory, .. })), "{failure:?}");
    assert_eq!(account.used().refused_memory, 1);
    drop((first, second, too_much));
    assert_eq!(account.used().memory_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_past_the_accounts_memory_reports_the_quota() {
    let engine = engine(32);
    let account = account(100 * PAGE, Duration::MAX);
    let fields = r#"(memory 1)
        (func (export "handle") (param i32 i32)
            (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            unreachable)"#;
    let failure = ask(&guest(&engine, fields, &bounds(&account)), LONG).await;
    assert!(matches!(failure, Err(Failure::Quota { quota: Quota::Memory, .. })), "{failure:?}");
    assert_eq!(account.used().memory_bytes, 0, "memory is still charged after the wasmtime store was dropped");
}

/// Returns the processor time that the calling thread has used so far.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

#[tokio::test]
async fn a_guest_that_loops_leaves_the_executor_to_others() {
    let engine = engine(32);
    let account = account(u64::MAX, Duration::from_secs(1000));
    let looping = guest(&engine, FOR_EVER, &bounds(&account));
    let before = thread_time();
    let looping = tokio::spawn(async move { ask(&looping, LONG).await });
    let waited = Instant::now();
    while account.used().cpu < Duration::from_millis(300) {
        assert!(waited.elapsed() < LONG, "the guest does not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let here = thread_time() - before;
    assert!(here < Duration::from_millis(150), "the guest ran for {here:?} of 300 ms on the executor's thread");
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_stopped_when_its_account_owes_too_much() {
    let engine = engine(32);
    let poor = account(u64::MAX, Duration::from_millis(50));
    let began = Instant::now();
    let failure = ask(&guest(&engine, FOR_EVER, &bounds(&poor)), LONG).await;
    let Err(Failure::Quota { quota: Quota::Cpu, backtrace, .. }) = &failure else { panic!("{failure:?}") };
    assert!(!backtrace.is_empty(), "the failure has no call stack");
    assert!(began.elapsed() < LONG / 2);
    let used = poor.used();
    assert!(
        used.cpu >= Duration::from_millis(100),
        "the guest was stopped before its account was overdrawn by a bucket: {used:?}"
    );
    assert!(used.refused_cpu >= 1);
    let wait = poor.begin().expect_err("the account has used up its processor time");
    assert!(wait <= Duration::from_secs(3), "{wait:?}");
    // A loop in a start function is stopped, too.
    let fields = format!("(func $start (loop $again (br $again))) (start $start) {NOTHING}");
    let failure = ask(&guest(&engine, &fields, &bounds(&poor)), LONG).await;
    assert!(matches!(failure, Err(Failure::Quota { quota: Quota::Cpu, .. })), "{failure:?}");
    // The processor time of the account `rich` is not limited, so its guests are not stopped.
    let rich = account(u64::MAX, Duration::MAX);
    ask(&guest(&engine, NOTHING, &bounds(&rich)), LONG).await.unwrap();
    assert_eq!(rich.used().refused_cpu, 0);
}

#[tokio::test]
async fn the_longest_idle_instance_is_evicted_whichever_tenant_owns_it() {
    let engine = engine(2);
    let accounts = [(); 3].map(|()| Account::unlimited());
    let fields = format!("(memory 1) {NOTHING}");
    let guests = accounts.each_ref().map(|account| guest(&engine, &fields, &bounds(account)));
    let live = || accounts.each_ref().map(|account| pages(account));
    ask(&guests[0], LONG).await.unwrap();
    ask(&guests[1], LONG).await.unwrap();
    ask(&guests[0], LONG).await.unwrap();
    assert_eq!(live(), [1, 1, 0]);
    ask(&guests[2], LONG).await.unwrap();
    assert_eq!(live(), [1, 0, 1], "the instance of the second account was used longest ago, but is not evicted");
    ask(&guests[1], LONG).await.unwrap();
    assert_eq!(live(), [0, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_whose_guests_are_all_busy_leave_room_for_others() {
    const GREEDY: usize = 6;
    let engine = engine(32);
    // Each account requests half of the pool's instances, and keeps those that it gets.
    let greedy: Vec<_> = (0..GREEDY).map(|_| account(1 << 40, Duration::MAX)).collect();
    let fields = format!("(memory 1) {FOR_EVER}");
    let mut running = Vec::new();
    for account in &greedy {
        for _ in 0..4 {
            let group = guest(&engine, &fields, &bounds(account));
            for _ in 0..4 {
                let group = group.clone();
                running.push(tokio::spawn(async move { ask(&group, Duration::from_secs(2)).await }));
            }
        }
    }
    // Waits until the accounts hold all instances that they may hold: each account one of the 8 instances that are set
    // aside for guaranteed shares, and all accounts together nearly all of the other 24.
    let held = || greedy.iter().map(|account| pages(account)).sum::<u64>();
    until(Duration::from_secs(1), || held() >= 24).await;
    let modest = account(1 << 40, Duration::MAX);
    let neighbour = guest(&engine, &format!("(memory 1) {NOTHING}"), &bounds(&modest));
    for _ in 0..20 {
        ask(&neighbour, LONG).await.unwrap();
    }
    let mut refused = 0;
    for one in running {
        match one.await.unwrap() {
            Err(Failure::Deadline { .. }) => {}
            Err(Failure::Full { .. } | Failure::Overloaded { .. } | Failure::Instantiate { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "no request is refused although more instances are requested than the pool has");
    assert_eq!(held(), 0);
}

/// Sends several requests, one after another. Returns the minimum processor time that the guests of `busy` use during
/// one of these requests.
async fn least_use_during_a_request(busy: std::sync::Arc<Account>, group: isomer_runtime::GroupHandle) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let before = busy.used().cpu;
        // Yields, so that this task runs after all tasks that are ready.
        tokio::task::yield_now().await;
        ask(&group, LONG).await.unwrap();
        least = least.min(busy.used().cpu.saturating_sub(before));
    }
    least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_does_not_wait_for_all_guests_that_compute() {
    let engine = engine(512);
    // The account's processor time is limited, but it suffices for the whole test.
    let busy = account(1 << 40, Duration::from_secs(1000));
    let computing = guest(&engine, FOR_EVER, &Bounds { instances_max: 64, ..bounds(&busy) });
    let allowed = Duration::from_secs(4);
    let running: Vec<_> = (0..64)
        .map(|_| {
            let group = computing.clone();
            tokio::spawn(async move { ask(&group, allowed).await })
        })
        .collect();
    let modest = account(1 << 40, Duration::MAX);
    let neighbour = guest(&engine, NOTHING, &bounds(&modest));
    // Waits until all guests run, that is, until each has been charged for its first time slice.
    until(Duration::from_secs(2), || busy.used().cpu >= Duration::from_millis(700)).await;
    let least = tokio::spawn(least_use_during_a_request(busy.clone(), neighbour)).await.unwrap();
    // If each of the 64 guests ran for a time slice of 5 ms before the request, they would use 320 ms.
    assert!(least < Duration::from_millis(160), "{least:?}");
    for one in running {
        let ended = one.await.unwrap();
        assert!(matches!(ended, Err(Failure::Deadline { .. } | Failure::Overloaded { .. })), "{ended:?}");
    }
}

#[tokio::test]
async fn host_memory_of_instances_and_requests_is_charged() {
    let engine = engine(32);
    let account = account_of(11 * PAGE);
    let small = guest(&engine, NOTHING, &bounds(&account));
    ask(&small, LONG).await.unwrap();
    let idle = account.used();
    assert_eq!(idle.memory_bytes, idle.host_bytes, "the charge without guest memory is not host memory");
    assert!(idle.host_bytes >= PAGE / 2, "{idle:?}");
    // The same component runs in an account whose memory is not enough for it.
    let poor = account_of(PAGE / 2);
    let failure = ask(&guest(&engine, NOTHING, &bounds(&poor)), LONG).await;
    assert!(matches!(failure, Err(Failure::Quota { quota: Quota::Memory, .. })), "{failure:?}");
    assert_eq!(poor.used().memory_bytes, 0);
    drop(small);
    assert_eq!(account.used().memory_bytes, 0);
}

fn account_of(memory_bytes: u64) -> std::sync::Arc<Account> {
    account(memory_bytes, Duration::MAX)
}
