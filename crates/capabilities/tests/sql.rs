//! SQL stores through their public interface: statements, transactions, limits, and the authorizer.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::time::Duration;

use isomer_capabilities::sql::{Rows, Sql, SqlError, SqlLimits, SqlSettings, SqlStore, Value};
use tempfile::TempDir;

async fn store(limits: SqlLimits) -> (TempDir, Sql, SqlStore) {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::new(dir.path(), limits);
    let store = sql.open("test", SqlSettings::default()).await.unwrap();
    (dir, sql, store)
}

async fn with_table(limits: SqlLimits) -> (TempDir, Sql, SqlStore) {
    let opened = store(limits).await;
    execute(&opened.2, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)").await.unwrap();
    opened
}

async fn execute(store: &SqlStore, statement: &str) -> Result<u64, SqlError> {
    store.execute(statement.to_owned(), vec![]).await
}

async fn query(store: &SqlStore, statement: &str) -> Result<Rows, SqlError> {
    store.query(statement.to_owned(), vec![]).await
}

async fn count(store: &SqlStore) -> i64 {
    let rows = query(store, "SELECT count(*) FROM t").await.unwrap();
    let Value::Integer(count) = rows.rows[0][0] else { panic!("{rows:?}") };
    count
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[tokio::test]
async fn every_kind_of_value_is_read_as_it_was_written() {
    let (dir, sql, store) = store(SqlLimits::default()).await;
    assert_eq!(execute(&store, "CREATE TABLE v (a, b, c, d, e)").await, Ok(0));
    let row =
        vec![Value::Null, Value::Integer(i64::MIN), Value::Real(-0.5), text("süß\u{1F980}"), Value::Blob(vec![0, 255])];
    let changed = store.execute("INSERT INTO v VALUES (?, ?, ?, ?, ?)".to_owned(), row.clone()).await;
    assert_eq!(changed, Ok(1));
    drop((store, sql));
    let sql = Sql::new(dir.path(), SqlLimits::default());
    let store = sql.open("test", SqlSettings::default()).await.unwrap();
    let rows = query(&store, "SELECT a, b, c, d AS name, e FROM v").await.unwrap();
    assert_eq!(rows.columns, ["a", "b", "c", "name", "e"]);
    assert_eq!(rows.rows, [row]);
}

#[tokio::test]
async fn counts_are_of_the_statement_itself() {
    let (_dir, _sql, store) = with_table(SqlLimits::default()).await;
    assert_eq!(execute(&store, "INSERT INTO t (name) VALUES ('a'), ('b'), ('c')").await, Ok(3));
    assert_eq!(execute(&store, "CREATE INDEX i ON t (name)").await, Ok(0));
    assert_eq!(execute(&store, "UPDATE t SET name = name || '!' WHERE id > 1").await, Ok(2));
    assert_eq!(execute(&store, "DELETE FROM t WHERE id = 77").await, Ok(0));
    let rows = query(&store, "DELETE FROM t RETURNING name").await.unwrap();
    assert_eq!(rows.rows.len(), 3);
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn errors_have_distinct_kinds() {
    let (_dir, _sql, store) = with_table(SqlLimits::default()).await;
    execute(&store, "INSERT INTO t (name) VALUES ('a')").await.unwrap();
    execute(&store, "CREATE TABLE child (t INTEGER REFERENCES t (id))").await.unwrap();
    for statement in ["", "  -- nothing", "SELEC 1", "SELECT * FROM nowhere", "SELECT 1; SELECT 2", "SELECT 1\0"] {
        let refused = query(&store, statement).await;
        assert!(matches!(refused, Err(SqlError::Statement(_))), "{statement:?}: {refused:?}");
    }
    let rows_by_execute = execute(&store, "DELETE FROM t RETURNING id").await;
    assert!(
        matches!(&rows_by_execute, Err(SqlError::Statement(why)) if why.contains("`query`")),
        "{rows_by_execute:?}"
    );
    assert_eq!(count(&store).await, 1, "a refused statement changes nothing");
    for statement in
        ["INSERT INTO t (name) VALUES ('a')", "INSERT INTO t (name) VALUES (NULL)", "INSERT INTO child VALUES (9)"]
    {
        let refused = execute(&store, statement).await;
        assert!(matches!(refused, Err(SqlError::Constraint(_))), "{statement:?}: {refused:?}");
        let refused = query(&store, &format!("{statement} RETURNING 1")).await;
        assert!(matches!(refused, Err(SqlError::Constraint(_))), "{statement:?}: {refused:?}");
    }
    for (placeholders, parameters) in [("?", 0), ("?", 2), ("?1, ?1", 2), ("?2", 1)] {
        let refused = store.query(format!("SELECT {placeholders}"), vec![Value::Null; parameters]).await;
        assert!(matches!(refused, Err(SqlError::Parameters(_))), "{placeholders}: {refused:?}");
    }
}

#[tokio::test]
async fn statements_that_leave_the_store_or_change_the_connection_are_refused() {
    let (dir, _sql, store) = with_table(SqlLimits::default()).await;
    let outside = dir.path().join("outside");
    for statement in [
        &format!("ATTACH '{}' AS other", outside.display()),
        "DETACH main",
        "VACUUM",
        &format!("VACUUM INTO '{}'", outside.display()),
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple')",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA temp_store_directory = '/'",
        "PRAGMA user_version = 3",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "SELECT * FROM pragma_database_list",
        "CREATE TEMP TABLE x (a)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE VIRTUAL TABLE x USING dbstat",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT x",
        "RELEASE x",
        "CREATE TABLE _isomer_migrations (a)",
        "INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)",
        "UPDATE sqlite_master SET sql = ''",
    ] {
        // Sends the statement twice, because it must also be refused if it is already in the cache of prepared
        // statements.
        for _ in 0..2 {
            let by_query = query(&store, statement).await;
            assert!(matches!(by_query, Err(SqlError::Statement(_))), "{statement}: {by_query:?}");
            let by_execute = execute(&store, statement).await;
            assert!(matches!(by_execute, Err(SqlError::Statement(_))), "{statement}: {by_execute:?}");
        }
    }
    assert!(!outside.exists());
    for statement in [
        "SELECT name FROM pragma_table_info('t')",
        "PRAGMA table_info(t)",
        "PRAGMA integrity_check",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
        "SELECT json_extract('{\"a\":1}', '$.a')",
    ] {
        assert!(!query(&store, statement).await.unwrap().rows.is_empty(), "{statement}");
    }
    execute(&store, "CREATE VIRTUAL TABLE words USING fts5 (body)").await.unwrap();
    execute(&store, "INSERT INTO words VALUES ('the quick fox')").await.unwrap();
    assert_eq!(query(&store, "SELECT body FROM words WHERE words MATCH 'fox'").await.unwrap().rows.len(), 1);
    execute(&store, "DROP TABLE words").await.unwrap();
}

#[tokio::test]
async fn a_statement_ends_at_its_time_limit_and_leaves_the_store_usable() {
    let limits = SqlLimits { statement_time: Duration::from_millis(50), ..SqlLimits::default() };
    let (_dir, _sql, store) = with_table(limits).await;
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    assert_eq!(query(&store, &format!("{endless} SELECT count(*) FROM n")).await, Err(SqlError::Timeout));
    let insert = format!("INSERT INTO t (name) {endless} SELECT i FROM n");
    assert_eq!(execute(&store, &insert).await, Err(SqlError::Timeout));
    assert_eq!(query(&store, &format!("{insert} RETURNING 1")).await, Err(SqlError::Timeout));
    assert_eq!(count(&store).await, 0);
    let transaction = store.begin().await.unwrap();
    assert_eq!(transaction.execute(insert, vec![]).await, Err(SqlError::Timeout));
    let after = transaction.commit().await;
    assert!(matches!(after, Err(SqlError::Store(_))), "SQLite has rolled it back: {after:?}");
    assert_eq!(execute(&store, "INSERT INTO t (name) VALUES ('a')").await, Ok(1));
}

#[tokio::test]
async fn sizes_are_bounded() {
    let limits = SqlLimits {
        statement_bytes_max: 1000,
        parameters_max: 3,
        value_bytes_max: 1000,
        result_rows_max: 5,
        result_bytes_max: 2000,
        ..SqlLimits::default()
    };
    let (_dir, _sql, store) = with_table(limits).await;
    let large = |result: Result<Rows, SqlError>| {
        assert!(matches!(result, Err(SqlError::TooLarge(_))), "{result:?}");
    };
    large(query(&store, &format!("SELECT 1 -- {}", "x".repeat(1000))).await);
    large(store.query("SELECT 1".to_owned(), vec![Value::Null; 4]).await);
    large(store.query("SELECT ?".to_owned(), vec![Value::Blob(vec![0; 1001])]).await);
    large(query(&store, "SELECT zeroblob(2000)").await);
    large(query(&store, "SELECT zeroblob(900), zeroblob(900), zeroblob(900)").await);
    let numbers = |to| format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})");
    assert_eq!(query(&store, &format!("{} SELECT i FROM n", numbers(5))).await.unwrap().rows.len(), 5);
    large(query(&store, &format!("{} SELECT i FROM n", numbers(6))).await);
    large(query(&store, &format!("INSERT INTO t (name) {} SELECT i FROM n RETURNING id", numbers(6))).await);
    assert_eq!(count(&store).await, 0, "a change whose result is too large is undone");
    let transaction = store.begin().await.unwrap();
    transaction.execute("INSERT INTO t (name) VALUES ('kept')".to_owned(), vec![]).await.unwrap();
    large(transaction.query(format!("INSERT INTO t (name) {} SELECT i FROM n RETURNING id", numbers(6)), vec![]).await);
    transaction.commit().await.unwrap();
    assert_eq!(count(&store).await, 1, "in a transaction, only the failed statement is undone");
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let (_dir, _sql, store) = with_table(SqlLimits::default()).await;
    let transaction = store.begin().await.unwrap();
    transaction.execute("INSERT INTO t (name) VALUES (?)".to_owned(), vec![text("a")]).await.unwrap();
    let inside = transaction.query("SELECT name FROM t".to_owned(), vec![]).await.unwrap();
    assert_eq!(inside.rows, [[text("a")]], "the transaction sees its own change");
    assert_eq!(count(&store).await, 0, "other readers do not see the change, and do not wait");
    transaction.commit().await.unwrap();
    assert_eq!(count(&store).await, 1);
    let transaction = store.begin().await.unwrap();
    transaction.execute("DELETE FROM t".to_owned(), vec![]).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = store.begin().await.unwrap();
    transaction.execute("DELETE FROM t".to_owned(), vec![]).await.unwrap();
    drop(transaction);
    // The next change waits until the dropped transaction has ended.
    execute(&store, "INSERT INTO t (name) VALUES ('b')").await.unwrap();
    assert_eq!(count(&store).await, 2);
    let transaction = store.begin().await.unwrap();
    let failed = transaction.execute("INSERT INTO t (name) VALUES ('c'), ('a')".to_owned(), vec![]).await;
    assert!(matches!(failed, Err(SqlError::Constraint(_))), "{failed:?}");
    transaction.execute("INSERT INTO t (name) VALUES ('d')".to_owned(), vec![]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&store).await, 3, "the failed statement changed nothing, and the transaction continued");
}

#[tokio::test]
async fn a_commit_that_a_constraint_refuses_leaves_nothing_open() {
    let (_dir, _sql, store) = with_table(SqlLimits::default()).await;
    execute(&store, "CREATE TABLE child (t INTEGER REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
    let transaction = store.begin().await.unwrap();
    transaction.execute("INSERT INTO child VALUES (9)".to_owned(), vec![]).await.unwrap();
    assert!(matches!(transaction.commit().await, Err(SqlError::Constraint(_))));
    assert_eq!(execute(&store, "INSERT INTO t (name) VALUES ('a')").await, Ok(1));
    assert!(query(&store, "SELECT * FROM child").await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn an_open_transaction_ends_at_its_deadline() {
    let limits = SqlLimits { transaction_time: Duration::from_millis(50), ..SqlLimits::default() };
    let (_dir, _sql, store) = with_table(limits).await;
    let transaction = store.begin().await.unwrap();
    transaction.execute("INSERT INTO t (name) VALUES ('a')".to_owned(), vec![]).await.unwrap();
    // This change waits until the other transaction exceeds its time limit.
    execute(&store, "INSERT INTO t (name) VALUES ('b')").await.unwrap();
    assert_eq!(
        transaction.execute("INSERT INTO t (name) VALUES ('c')".to_owned(), vec![]).await,
        Err(SqlError::Timeout)
    );
    assert_eq!(transaction.commit().await, Err(SqlError::Timeout));
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn waiting_for_a_transaction_is_bounded_in_time_and_number() {
    let limits = SqlLimits { wait_time: Duration::from_millis(30), waiting_writes_max: 1, ..SqlLimits::default() };
    let (_dir, _sql, store) = with_table(limits).await;
    let transaction = store.begin().await.unwrap();
    let both = tokio::join!(execute(&store, "DELETE FROM t"), execute(&store, "DELETE FROM t"));
    assert_eq!(both, (Err(SqlError::Overloaded), Err(SqlError::Overloaded)));
    assert_eq!(store.begin().await.err(), Some(SqlError::Overloaded));
    transaction.rollback().await.unwrap();
    assert_eq!(execute(&store, "DELETE FROM t").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transactions_lose_nothing() {
    let (_dir, _sql, store) = store(SqlLimits { wait_time: Duration::from_secs(60), ..SqlLimits::default() }).await;
    execute(&store, "CREATE TABLE n (i INTEGER)").await.unwrap();
    execute(&store, "INSERT INTO n VALUES (0)").await.unwrap();
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let transaction = store.begin().await.unwrap();
                    let rows = transaction.query("SELECT i FROM n".to_owned(), vec![]).await.unwrap();
                    let Value::Integer(i) = rows.rows[0][0] else { panic!("{rows:?}") };
                    transaction.execute("UPDATE n SET i = ?".to_owned(), vec![Value::Integer(i + 1)]).await.unwrap();
                    transaction.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(query(&store, "SELECT i FROM n").await.unwrap().rows, [[Value::Integer(80)]]);
}

#[tokio::test]
async fn a_cancelled_caller_leaves_no_transaction_behind() {
    let (_dir, _sql, store) = with_table(SqlLimits::default()).await;
    let transaction = store.begin().await.unwrap();
    let mut step = Box::pin(transaction.execute("INSERT INTO t (name) VALUES ('a')".to_owned(), vec![]));
    // Polls the future once, so that the statement runs, and then drops the future and its transaction.
    std::future::poll_fn(|cx| {
        let _ = step.as_mut().poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
    drop(step);
    drop(transaction);
    execute(&store, "INSERT INTO t (name) VALUES ('b')").await.unwrap();
    assert_eq!(query(&store, "SELECT name FROM t").await.unwrap().rows, [[text("b")]]);
}
