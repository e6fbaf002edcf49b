//! Tests that need access to private items of this crate: tests of failures that a caller of the crate cannot cause
//! (threads that do not start, an interrupted replacement), and of the limits of connections that run no statement of a
//! guest.

use std::fs;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::threads::FailingThreads;

/// The maximum time of a wait, which only detects a hang.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stores {
    dir: TempDir,
    threads: Arc<FailingThreads>,
    pool: Arc<Pool>,
    engine: SqlEngine,
    account: Arc<StorageAccount>,
}

impl Stores {
    fn new() -> Self {
        let threads = Arc::new(FailingThreads::default());
        let size = PoolSize { threads_max: 2, reserve_max: 0 };
        let pool = Pool::with_threads("test", size, threads.clone(), Duration::ZERO);
        let engine = SqlEngine::on(pool.clone(), SqlLimits::default());
        Self {
            dir: tempfile::tempdir().unwrap(),
            threads,
            pool,
            engine,
            account: Arc::new(StorageAccount::unlimited()),
        }
    }

    fn sql(&self) -> Sql {
        self.engine.stores(&self.dir.path().join("sql"), self.account.clone(), &Account::unlimited())
    }

    async fn open(&self) -> Result<SqlStore, SqlOpenError> {
        let opened = self.sql();
        let opened = tokio::time::timeout(PATIENCE, opened.open("s", SqlSettings::default())).await;
        opened.expect("opening does not hang")
    }

    /// Waits until no thread runs, and makes all later starts of threads fail.
    fn without_threads(&self) {
        self.pool.wait_without_threads();
        self.threads.fail(true);
    }

    /// Prepares a replacement of the store with a copy that has one more column.
    async fn replacing(&self) -> Replacing {
        let migrations = self.dir.path().join("migrations");
        fs::create_dir_all(&migrations).unwrap();
        fs::write(migrations.join("1.sql"), "ALTER TABLE t ADD COLUMN m DEFAULT 7").unwrap();
        let (by, deadline) = (Replacement::Migrated(migrations), Instant::now() + PATIENCE);
        self.sql().replace("s", by, &self.folder(), deadline).await.unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("snapshots/1")
    }
}

async fn create(store: &SqlStore) {
    store.execute("CREATE TABLE t (n INTEGER)".to_owned(), vec![]).await.unwrap();
}

async fn insert(store: &SqlStore, n: i64) -> Result<u64, SqlError> {
    let inserted = store.execute("INSERT INTO t (n) VALUES (?)".to_owned(), vec![Value::Integer(n)]);
    tokio::time::timeout(PATIENCE, inserted).await.expect("the statement does not hang")
}

async fn query(store: &SqlStore, what: &str) -> Result<Vec<Vec<Value>>, SqlError> {
    let rows = store.query(format!("SELECT {what} FROM t ORDER BY n"), vec![]);
    Ok(tokio::time::timeout(PATIENCE, rows).await.expect("the query does not hang")?.rows)
}

fn numbers(numbers: &[i64]) -> Vec<Vec<Value>> {
    numbers.iter().map(|n| vec![Value::Integer(*n)]).collect()
}

#[tokio::test]
async fn statements_without_a_thread_fail_and_later_ones_run() {
    let stores = Stores::new();
    let store = stores.open().await.unwrap();
    create(&store).await;
    for round in 0..3 {
        let transaction = store.begin().await.unwrap();
        transaction.execute("INSERT INTO t VALUES (-1)".to_owned(), vec![]).await.unwrap();
        stores.without_threads();
        assert!(transaction.execute("INSERT INTO t VALUES (-2)".to_owned(), vec![]).await.is_err());
        let refused = transaction.commit().await;
        assert!(matches!(refused, Err(SqlError::Store(_))), "{refused:?}");
        let refused = insert(&store, -3).await;
        assert!(matches!(refused, Err(SqlError::Store(_))), "{refused:?}");
        assert!(query(&store, "n").await.is_err() && store.begin().await.is_err());
        assert!(stores.sql().open("other", SqlSettings::default()).await.is_err());
        stores.threads.fail(false);
        insert(&store, round).await.unwrap();
        assert_eq!(query(&store, "n").await.unwrap(), numbers(&(0..=round).collect::<Vec<_>>()));
    }
    // Drops the last handle while no thread can be started. The file must be closed nevertheless.
    stores.without_threads();
    drop(store);
    stores.threads.fail(false);
    assert_eq!(query(&stores.open().await.unwrap(), "n").await.unwrap(), numbers(&[0, 1, 2]));
}

#[tokio::test]
async fn a_paused_store_is_reopened_by_the_next_statement() {
    for reads_first in [true, false] {
        let stores = Stores::new();
        let store = stores.open().await.unwrap();
        create(&store).await;
        let replacing = stores.replacing().await;
        stores.without_threads();
        drop(replacing);
        stores.threads.fail(false);
        if reads_first {
            assert_eq!(query(&store, "n").await.unwrap(), numbers(&[]));
        }
        insert(&store, 1).await.unwrap();
        assert_eq!(query(&store, "n").await.unwrap(), numbers(&[1]));
    }
}

#[tokio::test]
async fn a_failed_switch_is_repeated_when_the_store_is_opened() {
    let stores = Stores::new();
    let old = stores.open().await.unwrap();
    create(&old).await;
    insert(&old, 1).await.unwrap();
    let mut replacing = stores.replacing().await;
    let (folder, away) = (stores.folder(), stores.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    replacing.switch().unwrap_err();
    drop(replacing);
    for _ in 0..2 {
        let refused = stores.open().await.err();
        assert!(matches!(refused, Some(SqlOpenError::Unfinished { .. })), "{refused:?}");
        assert!(insert(&old, 2).await.is_err() && query(&old, "n").await.is_err(), "the row would be in the old file");
    }
    let trial = stores.engine.stores(&stores.dir.path().join("trial"), stores.account.clone(), &Account::unlimited());
    assert!(stores.sql().open_candidate("s", SqlSettings::default(), &trial).await.is_err());
    fs::rename(&away, &folder).unwrap();
    let new = stores.open().await.unwrap();
    assert_eq!(query(&new, "m").await.unwrap(), numbers(&[7]));
    assert!(insert(&old, 2).await.is_err(), "a handle of the old file");
    insert(&new, 2).await.unwrap();
    assert_eq!(query(&new, "n").await.unwrap(), numbers(&[1, 2]));
    assert!(folder.join(snapshot_name("s")).exists() && !folder.join("s.next").exists());
}

#[tokio::test]
async fn a_failed_switch_can_be_finished_without_opening_the_store() {
    let stores = Stores::new();
    let old = stores.open().await.unwrap();
    create(&old).await;
    let mut replacing = stores.replacing().await;
    let (folder, away) = (stores.folder(), stores.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    replacing.switch().unwrap_err();
    drop(replacing);
    stores.sql().finish_replacements(&folder).await.unwrap_err();
    fs::rename(&away, &folder).unwrap();
    stores.sql().finish_replacements(&folder).await.unwrap();
    stores.sql().finish_replacements(&folder).await.unwrap();
    assert!(folder.join(snapshot_name("s")).exists() && !folder.join("s.next").exists());
    let new = stores.open().await.unwrap();
    insert(&new, 2).await.unwrap();
    assert_eq!(query(&new, "m").await.unwrap(), numbers(&[7]));
    // An open store cannot be replaced: the call fails, and the store continues to work.
    fs::write(folder.join("s.next"), "").unwrap();
    let refused = stores.sql().finish_replacements(&folder).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
    insert(&new, 3).await.unwrap();
}

#[tokio::test]
async fn a_failed_switch_is_finished_while_the_tenant_occupies_all_threads() {
    let stores = Stores::new();
    create(&stores.open().await.unwrap()).await;
    let mut replacing = stores.replacing().await;
    let (folder, away) = (stores.folder(), stores.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    replacing.switch().unwrap_err();
    drop(replacing);
    fs::rename(&away, &folder).unwrap();
    // Occupies the tenant's threads. Later jobs of the tenant have to wait.
    let gate = Arc::new(std::sync::Barrier::new(1 + 2));
    for _ in 0..2 {
        let gate = gate.clone();
        stores.sql().job_queue.spawn(move || {
            gate.wait();
        });
    }
    let sql = stores.sql();
    let finished = tokio::time::timeout(PATIENCE, sql.finish_replacements(&folder)).await;
    gate.wait();
    finished.expect("the call does not wait for the tenant's threads").unwrap();
    assert!(folder.join(snapshot_name("s")).exists() && !folder.join("s.next").exists());
}

#[tokio::test]
async fn a_copying_connection_has_the_bounds_of_all_others() {
    let stores = Stores::new();
    let store = stores.open().await.unwrap();
    let opening = &store.inner().opening;
    let goal = stores.dir.path().join("copy");
    fs::write(&goal, "").unwrap();
    let copying = opening.connect_to_copy(&goal).unwrap();
    let kibibytes: i64 = copying.query_row("PRAGMA cache_size", [], |row| row.get(0)).unwrap();
    assert_eq!(kibibytes, -i64::try_from(opening.limits.cache_bytes / 1024).unwrap());
    for (limit, max) in [
        (rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, opening.limits.value_bytes_max),
        (rusqlite::limits::Limit::SQLITE_LIMIT_ATTACHED, 0),
        (rusqlite::limits::Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        assert_eq!(copying.limit(limit).unwrap(), i32::try_from(max).unwrap());
    }
}
