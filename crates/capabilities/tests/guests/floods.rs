//! One tenant floods its stores with operations. Other tenants still get results, and nothing stays open afterwards.
//!
//! Time limits in these tests only detect a hang.

use std::path::Path;
use std::time::Duration;

use isomer_capabilities::kv::KvError;
use isomer_capabilities::sql::{SqlError, SqlSettings, Value};
use isomer_capabilities::{Capabilities, CapabilityLimits};

use super::tenants::{Node, tree};

const PATIENCE: Duration = Duration::from_secs(60);

const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// Returns limits with so few threads that one tenant could occupy all of them.
fn narrow() -> CapabilityLimits {
    let mut limits = CapabilityLimits::default();
    (limits.kv.threads_max, limits.kv.tenant_threads_max) = (3, 2);
    (limits.sql.threads_max, limits.sql.tenant_threads_max) = (3, 2);
    limits.sql.statement_time = Duration::from_secs(2);
    limits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_statements_leave_threads_to_others() {
    let node = Node::new(narrow());
    let (greedy, modest) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let mut floods = Vec::new();
    for store in ["one", "two", "three", "four"] {
        let store = node.engines.sql(&greedy.resources()).open(store, SqlSettings::default()).await.unwrap();
        // On the two threads, these statements together take minutes.
        for _ in 0..50 {
            let store = store.clone();
            floods.push(tokio::spawn(async move { store.query(ENDLESS.to_owned(), vec![]).await }));
        }
    }
    let answered = async {
        let store = node.engines.sql(&modest.resources()).open("one", SqlSettings::default()).await.unwrap();
        store.execute("CREATE TABLE t (i INTEGER)".to_owned(), vec![]).await.unwrap();
        for number in 0..20 {
            store.execute("INSERT INTO t VALUES (?)".to_owned(), vec![Value::Integer(number)]).await.unwrap();
            let rows = store.query("SELECT count(*) FROM t".to_owned(), vec![]).await.unwrap();
            assert_eq!(rows.rows, [[Value::Integer(number + 1)]]);
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the other tenant gets a result");
    assert!(floods.iter().any(|flood| !flood.is_finished()), "the flood had ended before");
    for flood in floods {
        flood.abort();
        if let Ok(ended) = flood.await {
            assert!(matches!(ended, Err(SqlError::Timeout | SqlError::Overloaded)), "{ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_writes_is_bounded_and_others_get_results() {
    let mut limits = narrow();
    limits.kv.waiting_writes_max = 64;
    limits.kv.waiting_bytes_max = 4 << 20;
    let node = Node::new(limits);
    let (greedy, modest) = (node.tenant("a", 1 << 30), node.tenant("b", 1 << 30));
    let store = node.engines.kv(&greedy.resources()).store("one").await.unwrap();
    let mut floods = tokio::task::JoinSet::new();
    for number in 0..400 {
        let store = store.clone();
        floods.spawn(async move { store.set(format!("k{number}"), vec![1; 100_000]).await });
    }
    let answered = async {
        let store = node.engines.kv(&modest.resources()).store("one").await.unwrap();
        for number in 0..10_u8 {
            store.set("k".to_owned(), vec![number]).await.unwrap();
            assert_eq!(store.get("k".to_owned()).await.unwrap(), Some(vec![number]));
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the other tenant gets a result");
    let ended = floods.join_all().await;
    assert!(ended.iter().all(|ended| matches!(ended, Ok(()) | Err(KvError::Overloaded))), "{ended:?}");
    assert!(
        ended.contains(&Ok(())) && ended.contains(&Err(KvError::Overloaded)),
        "some operations are accepted and some are refused"
    );
    // Refused operations do not stay in the queue, so the store accepts the next operation.
    store.set("after".to_owned(), vec![1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_have_their_own_errors_and_leave_nothing() {
    let mut limits = narrow();
    limits.sql.statement_time = Duration::from_secs(1);
    limits.sql.transaction_time = Duration::from_secs(1);
    let node = Node::new(limits);
    let (greedy, modest) = (node.tenant("a", 64 << 20), node.tenant("b", 64 << 20));
    let probe = node.start("sql-probe", "grants.sql = [\"default\"]", &greedy).await;
    let other = node.start("sql-probe", "grants.sql = [\"default\"]", &modest).await;
    other.expect("/execute", "CREATE TABLE t (v)", 200, "changed=0\n").await;
    probe.expect("/query", "SELECT 1 AS one", 200, "one\ni:1\n").await;
    let before: Vec<_> = tree(node.dir.path()).into_keys().collect();
    let rows = |value: &str| {
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT {value} FROM n")
    };
    let large = "hex(zeroblob(4000000))";
    let columns = vec!["1"; 3000].join(",");
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    let compound = vec!["SELECT 1"; 1000].join(" UNION ALL ");
    let bombs: Vec<(u16, String)> = vec![
        (504, ENDLESS.to_owned()),
        (504, format!("SELECT count(*) FROM ({}) a, ({}) b", rows("i"), rows("i"))),
        (413, "SELECT randomblob(1000000000)".to_owned()),
        (413, format!("SELECT {large} || {large}")),
        (413, format!("SELECT replace({large}, '0', {large})")),
        (413, format!("SELECT concat({})", vec![large; 90].join(","))),
        (413, "SELECT printf('%.*c', 100000000, 'x')".to_owned()),
        (413, rows("group_concat(hex(zeroblob(1000000)))")),
        (413, rows("zeroblob(1000)")),
        (413, rows("i")),
        (400, format!("SELECT concat({})", vec!["'x'"; 200].join(","))),
        (400, format!("SELECT {large} LIKE '{}'", "%a".repeat(1000))),
        (400, format!("SELECT {large} GLOB '{}'", "*a".repeat(1000))),
        (400, format!("SELECT {columns}")),
        (400, deep),
        (400, compound),
        (400, format!("SELECT json_patch({large}, {large})")),
        (200, format!("SELECT instr({large}, hex(zeroblob(2000000)) || 'x')")),
        (413, format!("SELECT 1 -- {}", "x".repeat(200_000))),
    ];
    for (expected, bomb) in &bombs {
        let start: String = bomb.chars().take(60).collect();
        let outcome = tokio::time::timeout(PATIENCE, probe.ask("/query", bomb)).await;
        let (status, text) = outcome.unwrap_or_else(|_| panic!("{start} has no end"));
        let text: String = text.chars().take(200).collect();
        // On a slow machine, a statement may reach its time limit before its size limit.
        let timed_out = status == 504 && *expected != 400;
        assert!(status == *expected || timed_out, "{start}: {status} {text}");
        other.expect("/query", "SELECT count(*) AS n FROM t", 200, "n\ni:0\n").await;
    }
    // Requests that neither commit nor roll back: one ends with a trap, one drops the handle of its transaction.
    let insert = "CREATE TABLE IF NOT EXISTS left_open (v)";
    for end in ["trap", "drop"] {
        let _ended = probe.try_ask(&format!("/transaction?end={end}"), insert).await;
        probe.expect("/query", "SELECT count(*) AS n FROM sqlite_schema", 200, "n\ni:0\n").await;
    }
    // Prepares many different statements, because the number of statements that are kept prepared is limited.
    for number in 0..200 {
        probe.expect("/query", &format!("SELECT {number} AS n"), 200, &format!("n\ni:{number}\n")).await;
    }
    let after: Vec<_> = tree(node.dir.path()).into_keys().collect();
    assert_eq!(before, after, "a file was left behind");
    probe.expect("/execute", "CREATE TABLE t (v)", 200, "changed=0\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_value_bombs_have_their_own_errors() {
    let node = Node::new(narrow());
    let tenant = node.tenant("a", 64 << 20);
    let probe = node.start("kv-probe", "grants.kv = [\"default\"]", &tenant).await;
    let many: String = (0..2000).map(|number| format!("k{number}=v\n")).collect();
    let keys = vec!["k"; 2000].join(",");
    for (path, body, expected) in [
        (format!("/set?key={}", "k".repeat(2000)), "x".to_owned(), "the maximum of"),
        ("/set?key=k".to_owned(), "x".repeat(9 << 20), "the maximum of"),
        ("/set-many".to_owned(), many, "the maximum of"),
        (format!("/get-many?keys={keys}"), String::new(), "the maximum of"),
        (format!("/delete-many?keys={keys}"), String::new(), "the maximum of"),
        (format!("/list?cursor={}", "c".repeat(2000)), String::new(), "the maximum of"),
    ] {
        let (status, text) = probe.ask(&path, &body).await;
        let start: String = path.chars().take(40).collect();
        assert!(status == 500 && text.contains(expected), "{start}: {status} {text}");
    }
    probe.expect("/list-all", "", 200, "").await;
    probe.expect("/set?key=%00..%2f", "odd", 200, "set\n").await;
    probe.expect("/get?key=%00..%2f", "", 200, "odd").await;
}

/// Returns the number of file descriptors of this process that refer to files below `dir`.
#[cfg(target_os = "linux")]
fn descriptors(dir: &Path) -> usize {
    let dir = dir.canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(&dir))).count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_costs_what_it_uses_and_can_be_reopened_immediately() {
    let node = Node::new(CapabilityLimits::default());
    let tenant = node.tenant("a", 1 << 30);
    let (dir, data) = (node.dir.path(), tenant.dir.join("apps"));
    let open = async |grants: &str| {
        let app = super::grants(&format!("[components.probe]\nwasm = \"probe.wasm\"\n{grants}"));
        Capabilities::open(&app, &tenant.resources(), &node.engines).await.unwrap()
    };
    let idle = open("grants.config = { A = \"b\" }\ngrants.http = [\"a.example\"]").await;
    assert!(!data.exists() && descriptors(dir) == 0 && node.engines.open_stores() == 0);
    drop(idle);
    let grants = "grants.kv = [\"one\", \"two\"]\ngrants.sql = [\"three\"]";
    for round in 0..30 {
        let first = open(grants).await;
        assert_eq!(node.engines.open_stores(), 3, "round {round}");
        // The next revision shares the open stores of the old revision. A store that the next revision does not use is
        // closed with the old revision.
        let app = super::grants("[components.probe]\nwasm = \"probe.wasm\"\ngrants.kv = [\"one\"]");
        let next = first.next(&app, &tenant.dir.join("files")).await.unwrap();
        drop(first);
        let again = open(grants).await;
        drop((next, again));
    }
    node.engines.closed(&data).await;
    assert_eq!((node.engines.open_stores(), descriptors(dir)), (0, 0), "a file stayed open");
    let names: Vec<_> = tree(&data).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["one.redb", "two.redb", "three.sqlite"], "a closed store has its file and no log");
}
