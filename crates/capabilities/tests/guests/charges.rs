//! The processor time, memory and threads that stores use are charged to their tenant, and do not affect other tenants.
//!
//! Time limits in these tests only detect a hang.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::join_all;
use isomer_capabilities::CapabilityLimits;
use isomer_capabilities::kv::KvError;
use isomer_capabilities::sql::{SqlError, SqlSettings, SqlStore, Value};
use isomer_runtime::{Account, AccountLimits};

use super::tenants::{Node, Tenant};

const PATIENCE: Duration = Duration::from_secs(60);

const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// Returns limits with such a long statement time that statements end only when they are interrupted.
fn endless_time() -> CapabilityLimits {
    let mut limits = CapabilityLimits::default();
    limits.sql.statement_time = Duration::from_secs(3600);
    limits.sql.transaction_time = Duration::from_secs(3600);
    limits.sql.wait_time = PATIENCE;
    limits
}

async fn open(node: &Node, tenant: &Tenant, store: &str) -> SqlStore {
    node.engines.sql(&tenant.resources()).open(store, SqlSettings::default()).await.unwrap()
}

fn charged(node: &Node, name: &str, limits: AccountLimits) -> Tenant {
    Tenant { account: Account::new(name.into(), limits), ..node.tenant(name, 1 << 30) }
}

async fn one(store: &SqlStore) {
    let answered = tokio::time::timeout(PATIENCE, store.query("SELECT 1".to_owned(), vec![])).await;
    assert_eq!(answered.expect("the request gets a response").unwrap().rows, [[Value::Integer(1)]]);
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not reached in time: {what}");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_statement_is_interrupted_when_its_tenant_exceeds_its_processor_time() {
    let node = Node::new(endless_time());
    let limits = AccountLimits { memory_bytes: u64::MAX, cpu_per_second: Duration::from_millis(50) };
    let (tenant, other) = (charged(&node, "a", limits), node.tenant("b", 1 << 30));
    let store = open(&node, &tenant, "one").await;
    let ended =
        tokio::time::timeout(PATIENCE, store.query(ENDLESS.to_owned(), vec![])).await.expect("the statement ends");
    assert_eq!(ended, Err(SqlError::Cpu));
    assert!(SqlError::Cpu.to_string().contains("quota `cpu`"));
    let used = tenant.account.used();
    assert!(used.cpu >= Duration::from_millis(100) && used.refused_cpu >= 1, "{used:?}");
    one(&open(&node, &other, "one").await).await;
    assert!(other.account.used().cpu < used.cpu, "each tenant is charged for its own statement");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_value_work_is_charged() {
    let node = Node::new(CapabilityLimits::default());
    let (tenant, other) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let store = node.engines.kv(&tenant.resources()).store("one").await.unwrap();
    let before = tenant.account.used().cpu;
    for number in 0..20_u8 {
        store.set(format!("k{number}"), vec![number; 1 << 20]).await.unwrap();
        store.get(format!("k{number}")).await.unwrap();
    }
    assert!(tenant.account.used().cpu > before + Duration::from_millis(1), "{:?}", tenant.account.used());
    assert_eq!(other.account.used().cpu, Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_end_with_their_callers_even_while_they_wait() {
    let node = Node::new(endless_time());
    let tenant = node.tenant("a", 1 << 30);
    let store = open(&node, &tenant, "one").await;
    store.execute("CREATE TABLE t (v)".to_owned(), vec![]).await.unwrap();
    let ask = |statement: String| {
        let store = store.clone();
        tokio::spawn(async move { store.query(statement, vec![]).await })
    };
    // Occupies the store with two reading statements and one writing statement. The other statements wait, some of them
    // in a transaction.
    let transaction = store.begin().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)".to_owned(), vec![]).await.unwrap();
    let step = tokio::spawn(async move { transaction.query(ENDLESS.to_owned(), vec![]).await });
    let insert = format!("INSERT INTO t {} RETURNING 1", ENDLESS.replace("count(*)", "i"));
    let mut statements: Vec<_> = (0..20).map(|_| ask(ENDLESS.to_owned())).collect();
    statements.extend((0..20).map(|_| ask(insert.clone())));
    let running = tenant.account.used().cpu;
    until("statements run", || tenant.account.used().cpu > running + Duration::from_millis(20)).await;
    for statement in &statements {
        statement.abort();
    }
    step.abort();
    let answered = async {
        store.execute("INSERT INTO t VALUES (2)".to_owned(), vec![]).await.unwrap();
        store.query("SELECT v FROM t".to_owned(), vec![]).await.unwrap().rows
    };
    let rows = tokio::time::timeout(PATIENCE, answered).await.expect("the store accepts a statement again");
    assert_eq!(rows, [[Value::Integer(2)]], "the transaction was rolled back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_tenant_gets_a_thread_although_others_occupy_all() {
    let mut limits = endless_time();
    (limits.sql.threads_max, limits.sql.tenant_threads_max, limits.sql.reserve_threads_max) = (4, 2, 2);
    let node = Node::new(limits);
    let mut greedy = Vec::new();
    for name in ["a", "b", "c"] {
        let tenant = node.tenant(name, 1 << 30);
        // Opens both stores before a statement runs, because opening a store is a job of its tenant, and would wait
        // while statements occupy the tenant's two threads. This wait would not be an error: the test checks only that
        // other tenants do not wait.
        for store in [open(&node, &tenant, "one").await, open(&node, &tenant, "two").await] {
            for _ in 0..10 {
                let store = store.clone();
                greedy.push(tokio::spawn(async move { store.query(ENDLESS.to_owned(), vec![]).await }));
            }
        }
        until("the tenant's statements run", || tenant.account.used().cpu > Duration::from_millis(10)).await;
    }
    for name in ["d", "e", "f"] {
        one(&open(&node, &node.tenant(name, 1 << 30), "one").await).await;
    }
    assert!(greedy.iter().all(|greedy| !greedy.is_finished()), "the greedy statements still run");
    for greedy in greedy {
        greedy.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_statements_are_charged_with_their_parameters_and_bounded() {
    const MIB: usize = 1 << 20;
    let mut limits = endless_time();
    limits.sql.tenant_waiting_bytes_max = 8 * MIB;
    let node = Node::new(limits);
    let limits = AccountLimits { memory_bytes: 6 << 20, cpu_per_second: Duration::MAX };
    let (poor, rich) = (charged(&node, "a", limits), node.tenant("b", 1 << 30));
    for (tenant, refused) in [(&poor, SqlError::Memory { limit: 6 << 20 }), (&rich, SqlError::Overloaded)] {
        let store = open(&node, tenant, "one").await;
        store.execute("CREATE TABLE t (v)".to_owned(), vec![]).await.unwrap();
        let transaction = store.begin().await.unwrap();
        let before = tenant.account.used().host_bytes;
        // These statements wait for the transaction.
        let mut waiting: Vec<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                let blob = vec![Value::Blob(vec![7; MIB])];
                Box::pin(async move { store.execute("INSERT INTO t VALUES (?)".to_owned(), blob).await })
            })
            .collect();
        let answers: Vec<_> = waiting.iter_mut().filter_map(|waiting| waiting.now_or_never()).collect();
        assert!((12..20).contains(&answers.len()), "{} were refused", answers.len());
        assert!(answers.iter().all(|answer| *answer == Err(refused.clone())), "{answers:?}");
        let charged = tenant.account.used().host_bytes - before;
        assert!(charged >= ((20 - answers.len()) * MIB) as u64, "{charged}");
        drop(waiting);
        assert_eq!(tenant.account.used().host_bytes, before, "the charge ends with the callers");
        transaction.commit().await.unwrap();
        store.execute("INSERT INTO t VALUES (?)".to_owned(), vec![Value::Blob(vec![7; MIB])]).await.unwrap();
    }
    assert!(poor.account.used().refused_memory > 0 && rich.account.used().refused_memory == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_values_are_charged() {
    let node = Node::new(CapabilityLimits::default());
    let limits = AccountLimits { memory_bytes: 4 << 20, cpu_per_second: Duration::MAX };
    let tenant = charged(&node, "a", limits);
    let store = node.engines.kv(&tenant.resources()).store("one").await.unwrap();
    assert_eq!(store.set("k".to_owned(), vec![1; 5 << 20]).await, Err(KvError::Memory { limit: 4 << 20 }));
    store.set("k".to_owned(), vec![1; 3 << 20]).await.unwrap();
    assert_eq!(tenant.account.used().host_bytes, 0);
    assert_eq!(store.get("k".to_owned()).await.unwrap().unwrap().len(), 3 << 20);
    assert_eq!(tenant.account.used().host_bytes, 0);
}

/// Returns a statement that holds eight megabytes per column until its row is complete.
fn memory_bomb(columns: usize) -> String {
    format!("SELECT {}", vec!["hex(zeroblob(4000000))"; columns].join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_bombs_of_a_tenant_do_not_affect_statements_of_others() {
    let node = Node::new(endless_time());
    let limits = AccountLimits { memory_bytes: 96 << 20, cpu_per_second: Duration::MAX };
    let (bomber, other) = (charged(&node, "a", limits), charged(&node, "b", limits));
    let (mut bombs, mut stores) = (Vec::new(), Vec::new());
    for store in ["one", "two", "three", "four"] {
        let store = Arc::new(open(&node, &bomber, store).await);
        stores.push(store.clone());
        bombs.extend((0..20).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.query(memory_bomb(100), vec![]).await })
        }));
    }
    let store = open(&node, &other, "one").await;
    store.execute("CREATE TABLE t (v)".to_owned(), vec![]).await.unwrap();
    let mut answered = 0;
    while answered < 20 || bombs.iter().any(|bomb| !bomb.is_finished()) {
        // This statement needs a lot of memory, but less than the limit of a statement.
        let rows = store.query(memory_bomb(1), vec![]).await.unwrap().rows;
        assert!(matches!(&rows[0][0], Value::Text(text) if text.len() == 8_000_000));
        store.execute("INSERT INTO t VALUES (1)".to_owned(), vec![]).await.unwrap();
        answered += 1;
    }
    let ended = join_all(bombs).await.into_iter().map(Result::unwrap);
    let (mut by_statement, mut by_tenant) = (0, 0);
    for ended in ended {
        match ended {
            Err(SqlError::TooLarge(text)) if text.contains("memory") => by_statement += 1,
            Err(SqlError::Memory { limit }) if limit == 96 << 20 => by_tenant += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(by_statement + by_tenant, 80);
    assert_eq!(other.account.used().refused_memory, 0);
    let used = bomber.account.used();
    assert!(used.host_bytes > 0 && used.host_bytes < 16 << 20, "the memory of the connections is charged: {used:?}");
    // After the stores are closed, none of their memory is charged.
    drop((store, stores));
    node.engines.closed(node.dir.path()).await;
    until("nothing is charged", || bomber.account.used().host_bytes == 0 && other.account.used().host_bytes == 0).await;
}
