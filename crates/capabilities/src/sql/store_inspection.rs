//! Statements of a person who looks at the data of an app. They only read, and disturb the app as little as possible.
//!
//! Two mechanisms prevent changes: the authorizer refuses everything that does not read, and the connection is opened
//! read-only. At most one inspection of a store runs at a time, and it never uses the writing connection. So the app
//! keeps at least one reading connection if there are several, and its writes never wait.

use super::inspection::{Inspection, InspectionLimits};
use super::{SqlError, SqlStore};

impl SqlStore {
    /// Runs one statement that only reads. Does not wait for writers.
    ///
    /// # Errors
    /// [`SqlError::Statement`] if the statement does not only read, [`SqlError::Overloaded`] if another inspection of
    /// the store runs, and the errors of [`SqlStore::query`].
    pub async fn inspect(&self, statement: String, limits: InspectionLimits) -> Result<Inspection, SqlError> {
        let pending = self.inner().admit(statement, Vec::new())?;
        let inner = self.inner().clone();
        let permit = inner.inspecting.clone().try_acquire_owned().map_err(|_| SqlError::Overloaded)?;
        let reader = tokio::time::timeout(limits.time, inner.reading.clone().acquire_owned()).await;
        let reader = reader.map_err(|_| SqlError::Overloaded)?;
        let store = inner.clone();
        let job = move || {
            // The job owns the permits until it has ended, even if the caller no longer waits.
            let _permits = (permit, reader);
            store.with_reader(|session| session.inspect(&pending.statement, &limits)).flatten()
        };
        inner.job_queue.run(job).await?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sql::inspection::InspectedValue;
    use crate::sql::{Sql, SqlLimits, SqlSettings};

    const LIMITS: InspectionLimits =
        InspectionLimits { rows_max: 5, bytes_max: 10_000, cell_bytes_max: 16, time: Duration::from_secs(60) };

    async fn store(dir: &std::path::Path) -> SqlStore {
        let store = Sql::new(dir, SqlLimits::default()).open("s", SqlSettings::default()).await.unwrap();
        store.execute("CREATE TABLE t (n INTEGER, x)".to_owned(), vec![]).await.unwrap();
        let fill = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 9) INSERT INTO t SELECT n, n * 2 FROM c";
        store.execute(fill.to_owned(), vec![]).await.unwrap();
        store
    }

    #[tokio::test]
    async fn rows_and_values_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let found = store.inspect("SELECT n, x FROM t ORDER BY n".to_owned(), LIMITS).await.unwrap();
        assert_eq!((found.columns, found.rows.len(), found.truncated), (vec!["n".to_owned(), "x".to_owned()], 5, true));
        let values = "SELECT NULL, 1.5, 'ääääääääää', x'00ff', CAST(x'ff41' AS TEXT)";
        let found = store.inspect(values.to_owned(), LIMITS).await.unwrap();
        let expected = vec![
            InspectedValue::Null,
            InspectedValue::Real(1.5),
            InspectedValue::Text("ä".repeat(8), 20),
            InspectedValue::Blob(vec![0, 255], 2),
            InspectedValue::Text("\u{fffd}A".to_owned(), 2),
        ];
        assert_eq!((found.rows, found.truncated), (vec![expected], false));
        let large = InspectionLimits { bytes_max: 100, ..LIMITS };
        let found = store.inspect("SELECT n FROM t".to_owned(), large).await.unwrap();
        assert!(found.truncated && found.rows.len() < 5, "{found:?}");
    }

    #[tokio::test]
    async fn a_result_is_bounded_in_json_and_charged_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let name = "n".repeat(1000);
        let names = vec![format!("1 AS {name}"); 10].join(", ");
        let error = store.inspect(format!("SELECT {names}"), LIMITS).await.unwrap_err();
        assert!(matches!(&error, SqlError::TooLarge(why) if why.contains("names of the columns")), "{error:?}");
        let limits = InspectionLimits { rows_max: 1000, cell_bytes_max: 4096, ..LIMITS };
        for value in
            ["zeroblob(4000)", "replace(hex(zeroblob(1000)), '00', char(1))", "replace(hex(zeroblob(2000)), '0', '\"')"]
        {
            let rows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 9)";
            let found = store.inspect(format!("{rows} SELECT {value} FROM c"), limits.clone()).await.unwrap();
            assert_eq!((found.rows.len(), found.truncated), (1, true), "{value} has more than 5,000 bytes in JSON");
        }
        let found = store.inspect("SELECT zeroblob(4000)".to_owned(), limits).await.unwrap();
        let used = || store.inner().job_queue.account().used().memory_bytes;
        let with_result = used();
        drop(found);
        assert!(with_result >= used() + 8000, "the result is charged until it is dropped");
    }

    #[tokio::test]
    async fn nothing_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        for statement in [
            "INSERT INTO t VALUES (1, 2)",
            "INSERT INTO t VALUES (1, 2) RETURNING n",
            "UPDATE t SET x = 1",
            "DELETE FROM t",
            "WITH c AS (SELECT 1) DELETE FROM t",
            "CREATE TABLE u (n)",
            "CREATE TEMP TABLE u (n)",
            "DROP TABLE t",
            "REINDEX",
            "ANALYZE",
            "VACUUM",
            "BEGIN",
            "SAVEPOINT a",
            "ATTACH 'x' AS y",
            "PRAGMA user_version = 7",
            "PRAGMA query_only = 0",
            "PRAGMA wal_checkpoint",
            "SELECT load_extension('x')",
            "",
        ] {
            // The app may have prepared the same statement on the same connection before.
            let _ = store.inner().read(statement, &[]);
            let count = "SELECT count(*) FROM t".to_owned();
            let before = store.inspect(count.clone(), LIMITS).await.unwrap();
            let outcome = store.inspect(statement.to_owned(), LIMITS).await;
            assert!(matches!(outcome, Err(SqlError::Statement(_))), "{statement}: {outcome:?}");
            assert_eq!(store.inspect(count, LIMITS).await.unwrap(), before, "{statement}");
        }
        store.execute("CREATE VIRTUAL TABLE r USING rtree(id, low, high)".to_owned(), vec![]).await.unwrap();
        store.execute("INSERT INTO r VALUES (1, 2, 3)".to_owned(), vec![]).await.unwrap();
        let fresh = Sql::new(dir.path(), SqlLimits::default());
        drop(store);
        let store = fresh.open("s", SqlSettings::default()).await.unwrap();
        for statement in ["DELETE FROM r_node", "UPDATE r_rowid SET nodeno = 7", "INSERT INTO r_parent VALUES (8, 9)"] {
            let outcome = store.inspect(statement.to_owned(), LIMITS).await;
            assert!(matches!(outcome, Err(SqlError::Statement(_))), "{statement}: {outcome:?}");
        }
        // The module `rtree` prepares statements that write to its own tables when a connection first uses the table.
        let found = store.inspect("SELECT id FROM r WHERE low <= 2".to_owned(), LIMITS).await.unwrap();
        assert_eq!(found.rows, [[InspectedValue::Integer(1)]]);
        let fts = "CREATE VIRTUAL TABLE f USING fts5(body)";
        store.execute(fts.to_owned(), vec![]).await.unwrap();
        store.execute("INSERT INTO f VALUES ('hello world')".to_owned(), vec![]).await.unwrap();
        let found = store.inspect("SELECT * FROM f WHERE f MATCH 'hello'".to_owned(), LIMITS).await.unwrap();
        assert_eq!(found.rows.len(), 1);
    }

    #[tokio::test]
    async fn an_open_transaction_of_the_app_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let transaction = store.begin().await.unwrap();
        transaction.execute("DELETE FROM t".to_owned(), vec![]).await.unwrap();
        let found = store.inspect("SELECT count(*) FROM t".to_owned(), LIMITS).await.unwrap();
        assert_eq!(found.rows, [[InspectedValue::Integer(9)]], "the last committed state is shown");
    }

    #[tokio::test]
    async fn an_endless_statement_is_stopped_and_a_second_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";
        let limits = InspectionLimits { time: Duration::from_millis(300), ..LIMITS };
        let (first, second) = tokio::join!(
            store.inspect(endless.to_owned(), limits.clone()),
            store.inspect("SELECT 1".to_owned(), limits)
        );
        assert_eq!(first.unwrap_err(), SqlError::Timeout);
        assert_eq!(second.unwrap_err(), SqlError::Overloaded);
        assert_eq!(store.inspect("SELECT 1".to_owned(), LIMITS).await.unwrap().rows.len(), 1);
    }
}
