//! The storage quota of a tenant: what happens when it is reached, its effect on other tenants, and how deleting frees
//! space.

use std::time::{Duration, Instant};

use isomer_capabilities::kv::KvError;
use isomer_capabilities::sql::{SqlError, SqlSettings, SqlStore, Value};
use isomer_capabilities::{CapabilityLimits, StorageAccount};
use isomer_disk::tree::DEPTH_MAX;

use super::tenants::Node;

const MIB: u64 = 1 << 20;

async fn fill(store: &isomer_capabilities::kv::KvStore) -> (Vec<String>, KvError) {
    let mut keys = Vec::new();
    for number in 0.. {
        let key = format!("k{number}");
        match store.set(key.clone(), vec![7; 256 << 10]).await {
            Ok(()) => keys.push(key),
            Err(error) => return (keys, error),
        }
    }
    unreachable!("the store is never full")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_key_value_store_refuses_with_its_quota_and_accepts_again_after_deleting() {
    let node = Node::new(CapabilityLimits::default());
    let (tenant, other) = (node.tenant("a", 8 * MIB), node.tenant("b", 8 * MIB));
    let kv = node.engines.kv(&tenant.resources());
    let store = kv.store("one").await.unwrap();
    let (keys, refused) = fill(&store).await;
    assert_eq!(refused, KvError::Quota { limit: 8 * MIB });
    assert!(refused.to_string().contains("quota `storage`"), "{refused}");
    assert!(keys.len() >= 8, "{} values", keys.len());
    assert!(tenant.storage.refused() >= 1 && tenant.storage.used() <= 12 * MIB, "{:?}", tenant.storage);
    // Operations that add no data succeed although the quota is reached.
    assert_eq!(store.get(keys[0].clone()).await.unwrap().unwrap().len(), 256 << 10);
    let cas = store.compare("absent".to_owned()).await.unwrap();
    assert_eq!(store.swap(cas, vec![1; 256 << 10]).await, Err(KvError::Quota { limit: 8 * MIB }));
    // Another store of the same tenant has no space either. A store of another tenant has space.
    let second = kv.store("two").await.unwrap();
    assert!(matches!(second.set("k".to_owned(), vec![1; 1 << 20]).await, Err(KvError::Quota { .. })));
    let others = node.engines.kv(&other.resources()).store("one").await.unwrap();
    others.set("k".to_owned(), vec![1; 1 << 20]).await.unwrap();
    assert_eq!(other.storage.refused(), 0);
    store.delete_many(keys.clone()).await.unwrap();
    let (again, _) = fill(&store).await;
    assert!(again.len() * 3 >= keys.len(), "{} after {}", again.len(), keys.len());
    // A changed quota applies immediately, whether it is higher or lower.
    tenant.storage.set_limit(64 * MIB);
    store.set("more".to_owned(), vec![1; 1 << 20]).await.unwrap();
    tenant.storage.set_limit(MIB);
    assert!(matches!(store.set("more2".to_owned(), vec![1; 1 << 20]).await, Err(KvError::Quota { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_is_known_without_opening_and_shrinks_when_a_store_is_closed() {
    let node = Node::new(CapabilityLimits::default());
    let tenant = node.tenant("a", 32 * MIB);
    let (resources, dir) = (tenant.resources(), tenant.dir.join("apps"));
    let store = node.engines.kv(&resources).store("one").await.unwrap();
    let (keys, _) = fill(&store).await;
    let full = tenant.storage.used();
    let fresh = StorageAccount::new(u64::MAX);
    fresh.scan(&dir).unwrap();
    assert!(fresh.used() >= full / 2 && fresh.used() <= 2 * full, "{} {full}", fresh.used());
    store.delete_many(keys).await.unwrap();
    drop(store);
    node.engines.closed(&dir).await;
    assert!(tenant.storage.used() < full / 4, "{} of {full}", tenant.storage.used());
    assert_eq!(node.engines.open_stores(), 0);
}

async fn execute(store: &SqlStore, statement: &str) -> Result<u64, SqlError> {
    store.execute(statement.to_owned(), vec![]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sql_store_refuses_with_its_quota_and_accepts_again_after_deleting() {
    let node = Node::new(CapabilityLimits::default());
    let tenant = node.tenant("a", 12 * MIB);
    let store = node.engines.sql(&tenant.resources()).open("one", SqlSettings::default()).await.unwrap();
    execute(&store, "CREATE TABLE t (v BLOB)").await.unwrap();
    let insert =
        async || store.execute("INSERT INTO t VALUES (zeroblob(?))".to_owned(), vec![Value::Integer(256 << 10)]).await;
    let fill = async || loop {
        if let Err(error) = insert().await {
            break error;
        }
    };
    let count = async || {
        let rows = store.query("SELECT count(*) FROM t".to_owned(), vec![]).await.unwrap().rows;
        let Value::Integer(count) = rows[0][0] else { panic!("{rows:?}") };
        count
    };
    let refused = fill().await;
    assert_eq!(refused, SqlError::Quota { limit: 12 * MIB });
    assert!(refused.to_string().contains("quota `storage`"), "{refused}");
    let first = count().await;
    assert!(first >= 8, "{first} rows");
    assert!(tenant.storage.refused() >= 1 && tenant.storage.used() <= 24 * MIB, "{:?}", tenant.storage);
    // A transaction that exceeds the quota is also refused, and changes nothing.
    let transaction = store.begin().await.unwrap();
    let statement = "INSERT INTO t SELECT zeroblob(1000000) FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13))";
    assert!(matches!(transaction.execute(statement.to_owned(), vec![]).await, Err(SqlError::Quota { .. })));
    drop(transaction);
    assert_eq!(count().await, first);
    let full = tenant.storage.used();
    execute(&store, "DELETE FROM t").await.unwrap();
    assert!(tenant.storage.used() < full / 2, "{} of {full}", tenant.storage.used());
    fill().await;
    let again = count().await;
    assert!(again * 2 >= first, "{again} after {first}");
    // The quota also applies to migrations.
    let folder = tenant.dir.join("files/migrations");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("1.sql"),
        "CREATE TABLE m AS SELECT zeroblob(8000000) UNION ALL SELECT zeroblob(8000001);",
    )
    .unwrap();
    let settings = SqlSettings { migrations: Some(folder), ..SqlSettings::default() };
    let refused = node.engines.sql(&tenant.resources()).open("two", settings).await.err().unwrap().to_string();
    assert!(refused.contains("1.sql") && refused.contains("quota `storage`"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_may_not_fill_the_disk_with_temporary_files() {
    let mut limits = CapabilityLimits::default();
    limits.sql.statement_writes_max = 8 * MIB;
    limits.sql.statement_time = Duration::from_secs(60);
    let node = Node::new(limits);
    let tenant = node.tenant("a", 1 << 30);
    let store = node.engines.sql(&tenant.resources()).open("one", SqlSettings::default()).await.unwrap();
    let sort = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) \
                SELECT max(r) FROM (SELECT i, randomblob(1000) AS r FROM n ORDER BY r LIMIT -1 OFFSET 1)";
    let refused = store.query(sort.to_owned(), vec![]).await;
    assert!(matches!(&refused, Err(SqlError::TooLarge(text)) if text.contains("temporary files")), "{refused:?}");
    execute(&store, "CREATE TABLE t (v)").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_see_the_quota_and_full_folders_are_read_only() {
    let node = Node::new(CapabilityLimits::default());
    let tenant = node.tenant("a", 2 * MIB);
    let (kv, sql) = ("grants.kv = [\"default\"]", "grants.sql = [\"default\"]");
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    let value = "v".repeat(500_000);
    let files = node.start("dirs-probe", dirs, &tenant).await;
    for number in 0..3 {
        files.expect(&format!("/write?path=/data/{number}"), &value, 200, "done\n").await;
    }
    // A write that exceeds the quota is refused at the limit, and the space below the limit stays available.
    for number in 3..6 {
        files.ask(&format!("/write?path=/data/{number}"), &value).await;
    }
    while files.ask("/append?path=/data/rest", &"x".repeat(20_000)).await.0 == 200 {}
    let deadline = Instant::now() + Duration::from_secs(60);
    // An instance that is started when no space is available must not be able to write.
    let limit = tenant.storage.limit();
    tenant.storage.set_limit(MIB);
    loop {
        drop(files.ask("/read?path=/data/1", "").await);
        let fresh = node.start("dirs-probe", dirs, &tenant).await;
        if is_full(fresh.ask("/write?path=/data/x", "x").await) {
            fresh.expect("/read?path=/data/1", "", 200, &value).await;
            break;
        }
        assert!(Instant::now() < deadline, "a full folder can be written: {:?}", tenant.storage);
    }
    assert_eq!(limit, 2 * MIB);
    let (status, text) = node.start("kv-probe", kv, &tenant).await.ask("/set?key=k", &value).await;
    assert!(status == 500 && text.contains("quota `storage`"), "{status} {text}");
    let probe = node.start("sql-probe", sql, &tenant).await;
    let (status, text) = probe.ask("/execute", "CREATE TABLE t AS SELECT zeroblob(1000000)").await;
    assert!(status == 500 && text.contains("quota `storage`"), "{status} {text}");
    // Removes the files directly, as the operator of the node may do.
    for entry in std::fs::read_dir(tenant.dir.join("apps/a/dirs/data")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    tenant.storage.scan(&tenant.dir.join("apps")).unwrap();
    tenant.storage.set_limit(limit);
    node.start("dirs-probe", dirs, &tenant).await.expect("/write?path=/data/x", "x", 200, "done\n").await;
}

/// Returns whether the response means that a write was refused because no space is available. An instance that was
/// started while no space was available has read-only folders.
fn is_full((status, text): (u16, String)) -> bool {
    status == 403 || (status == 500 && text.starts_with("StorageFull"))
}

/// The maximum number of bytes by which writes during a scan can exceed the quota.
const OVERSHOOT_MAX: u64 = MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_cannot_write_more_than_the_quota_with_any_version_of_wasi() {
    let node = Node::new(CapabilityLimits::default());
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    for (name, target) in [("two", "/fill?path=/data/f&bytes="), ("three", "/fill-3?path=/data/f&bytes=")] {
        let tenant = node.tenant(name, 8 * MIB);
        let probe = node.start("dirs-probe", dirs, &tenant).await;
        let (status, text) = probe.ask(&format!("{target}{}", 64 * MIB), "").await;
        let written: u64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!(status == 200 && (6 * MIB..=8 * MIB).contains(&written), "{target}: {status} {text}");
        assert_eq!(text.ends_with("refused"), name == "three", "{text}");
        let fresh = StorageAccount::new(u64::MAX);
        fresh.scan(&tenant.dir.join("apps")).unwrap();
        assert!(fresh.used() <= 8 * MIB + OVERSHOOT_MAX, "{} bytes on disk", fresh.used());
        assert!(tenant.storage.refused() >= 1, "{:?}", tenant.storage);
        // Overwrites a file repeatedly. Its size must be charged only once.
        probe.expect("/remove?path=/data/f", "", 200, "done\n").await;
        for round in 0..10 {
            let (status, text) = probe.ask(&format!("{target}{}", 2 * MIB), "").await;
            let written: u64 = text.split(' ').next().unwrap().parse().unwrap_or(0);
            assert!(status == 200 && written >= 2 * MIB, "{target}, round {round}: {status} {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_the_quota_can_be_written_to_the_last_block() {
    let node = Node::new(CapabilityLimits::default());
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    let tenant = node.tenant("a", MIB);
    let probe = node.start("dirs-probe", dirs, &tenant).await;
    let (status, text) = probe.ask(&format!("/rest?path=/data/f&bytes={}", 4 * MIB), "").await;
    assert_eq!(status, 200, "{text}");
    let fresh = StorageAccount::new(u64::MAX);
    fresh.scan(&tenant.dir.join("apps")).unwrap();
    // A write of a thousand bytes may touch two blocks.
    assert!(fresh.used() + 4 * 4096 >= MIB, "{text}: {} of {MIB} bytes on disk", fresh.used());
    assert!(fresh.used() <= MIB + OVERSHOOT_MAX, "{} bytes on disk", fresh.used());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_folders_are_read_completely_with_any_version_of_wasi() {
    let node = Node::new(CapabilityLimits::default());
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    let tenant = node.tenant("a", 64 * MIB);
    let probe = node.start("dirs-probe", dirs, &tenant).await;
    let text: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    probe.expect("/write?path=/data/f", &text, 200, "done\n").await;
    probe.expect("/append?path=/data/f", "end", 200, "done\n").await;
    for path in ["/read", "/read-3"] {
        probe.expect(&format!("{path}?path=/data/f"), "", 200, &format!("{text}end")).await;
    }
    probe.expect("/make-dir?path=/data/d", "", 200, "done\n").await;
    let names: std::collections::BTreeSet<_> = (0..100).map(|number| format!("f{number}\n")).collect();
    for name in &names {
        probe.expect(&format!("/write?path=/data/d/{}", name.trim()), "", 200, "done\n").await;
    }
    let names: String = names.into_iter().collect();
    for path in ["/list", "/list-3"] {
        probe.expect(&format!("{path}?path=/data/d"), "", 200, &names).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_listings_occupy_no_threads() {
    let node = Node::new(CapabilityLimits::default());
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    let (greedy, other) = (node.tenant("a", 64 * MIB), node.tenant("b", 64 * MIB));
    let probe = node.start("dirs-probe", dirs, &greedy).await;
    for number in 0..40 {
        probe.expect(&format!("/write?path=/data/{number}"), "", 200, "done\n").await;
    }
    // Opens more directory listings than the executor has threads for blocking work. Opens fewer if the process may
    // have only a few file descriptors.
    let (status, text) = probe.ask("/hold-dirs?path=/data&count=700", "").await;
    let held: u64 = text.parse().unwrap();
    assert!(status == 200 && (16..=700).contains(&held), "{status} {text}");
    let neighbour = node.start("dirs-probe", dirs, &other).await;
    neighbour.expect("/write?path=/data/f", "text", 200, "done\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depth_of_folders_is_bounded_and_uncountable_ones_count_as_full() {
    let node = Node::new(CapabilityLimits::default());
    let dirs = "grants.dirs = [{ host = \"data\", guest = \"/data\", write = true }]";
    for (name, target) in [("two", "/nest?path=/data&levels=2600"), ("three", "/nest-3?path=/data&levels=2600")] {
        let tenant = node.tenant(name, 64 * MIB);
        let probe = node.start("dirs-probe", dirs, &tenant).await;
        let (status, text) = probe.ask(target, "").await;
        assert_eq!(status, 200, "{text}");
        let (made, error) = text.split_once(' ').unwrap_or_default();
        assert_eq!(made, DEPTH_MAX.to_string(), "{text}");
        // Does not compare the error, because its name in the standard library differs between targets.
        assert!(!error.is_empty(), "{text}");
        probe.expect("/write?path=/data/f", "text", 200, "done\n").await;
        // Moves the nested folder into another nested folder, which makes it too deep to be measured.
        let mut below = String::new();
        for _ in 0..3 {
            below = format!("{below}/e");
            probe.expect(&format!("/make-dir?path=/data{below}"), "", 200, "done\n").await;
        }
        probe.expect(&format!("/rename?path=/data/d&to=/data{below}/d"), "", 200, "done\n").await;
        let folder = tenant.dir.join("apps/a/dirs/data");
        tenant.storage.scan_folder(&folder).unwrap_err();
        assert_eq!(tenant.storage.used(), 64 * MIB);
        let fresh = node.start("dirs-probe", dirs, &tenant).await;
        let answer = fresh.ask("/write?path=/data/f", "more").await;
        assert!(is_full(answer), "a folder of unknown size can be written");
        assert!(tenant.storage.used() >= 64 * MIB);
        // Repairs the folder as an administrator would, by moving it up.
        std::fs::rename(folder.join("e/e/e/d"), folder.join("d")).unwrap();
        tenant.storage.scan_folder(&folder).unwrap();
        node.start("dirs-probe", dirs, &tenant).await.expect("/write?path=/data/f", "more", 200, "done\n").await;
    }
}
