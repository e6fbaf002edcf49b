//! Tests that each migration is applied once, in order, completely or not at all, and that a changed one is refused.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;

use isomer_capabilities::sql::{Sql, SqlError, SqlLimits, SqlOpenError, SqlSettings, SqlStore, Value};
use tempfile::TempDir;

struct App {
    data: TempDir,
    migrations: TempDir,
}

impl App {
    fn new(files: &[(&str, &str)]) -> Self {
        let app = Self { data: tempfile::tempdir().unwrap(), migrations: tempfile::tempdir().unwrap() };
        for (name, statements) in files {
            app.write(name, statements);
        }
        app
    }

    fn write(&self, name: &str, statements: &str) {
        fs::write(self.file(name), statements).unwrap();
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.migrations.path()).join(name)
    }

    async fn open(&self) -> Result<SqlStore, SqlOpenError> {
        let sql = Sql::new(self.data.path(), SqlLimits::default());
        let migrations = Some(self.migrations.path().to_owned());
        sql.open("test", SqlSettings { migrations, statement_time: None }).await
    }

    async fn refused(&self) -> String {
        self.open().await.err().expect("opened").to_string()
    }
}

async fn names(store: &SqlStore) -> Vec<Value> {
    let rows = store.query("SELECT name FROM t ORDER BY id".to_owned(), vec![]).await.unwrap();
    rows.rows.into_iter().flatten().collect()
}

const CREATE: (&str, &str) = ("001_create.sql", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);\n");
const FILL: (&str, &str) = ("002_fill.sql", "INSERT INTO t (name) VALUES ('a');\nINSERT INTO t (name) VALUES ('b');");

#[tokio::test]
async fn each_migration_is_applied_once_in_the_order_of_names() {
    let app = App::new(&[FILL, CREATE, ("notes.txt", "not SQL")]);
    for _ in 0..3 {
        assert_eq!(names(&app.open().await.unwrap()).await.len(), 2);
    }
    app.write("010_more.sql", "INSERT INTO t (name) VALUES ('c');");
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 3);
}

#[tokio::test]
async fn a_failed_migration_is_named_and_leaves_nothing() {
    let app =
        App::new(&[CREATE, ("002_bad.sql", "INSERT INTO t (name) VALUES ('a'); INSERT INTO nowhere VALUES (1);")]);
    let refused = app.refused().await;
    assert!(refused.contains("002_bad.sql") && refused.contains("no such table: nowhere"), "{refused}");
    app.write("002_bad.sql", "INSERT INTO t (name) VALUES ('b');");
    assert_eq!(names(&app.open().await.unwrap()).await, [Value::Text("b".to_owned())]);
}

#[tokio::test]
async fn a_changed_missing_or_late_migration_is_refused_by_name() {
    let app = App::new(&[CREATE, FILL]);
    app.open().await.unwrap();
    app.write(CREATE.0, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, more TEXT);");
    let refused = app.refused().await;
    assert!(refused.contains("001_create.sql") && refused.contains("was changed"), "{refused}");
    fs::remove_file(app.file(CREATE.0)).unwrap();
    let refused = app.refused().await;
    assert!(refused.contains("001_create.sql") && refused.contains("is missing"), "{refused}");
    app.write(CREATE.0, CREATE.1);
    app.write("0015_late.sql", "DELETE FROM t;");
    let refused = app.refused().await;
    assert!(refused.contains("0015_late.sql") && refused.contains("002_fill.sql"), "{refused}");
    fs::remove_file(app.file("0015_late.sql")).unwrap();
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 2);
}

#[tokio::test]
async fn a_migration_cannot_end_its_transaction_or_leave_the_store() {
    for (statements, why) in [
        ("CREATE TABLE x (a); ROLLBACK;", "leave ROLLBACK out"),
        ("SAVEPOINT a; CREATE TABLE x (a); ROLLBACK TO a;", "leave ROLLBACK out"),
        ("ATTACH 'x' AS y;", "leave ATTACH, DETACH and VACUUM out"),
        ("VACUUM;", "remove the statement, because migrations run in a transaction"),
        ("PRAGMA writable_schema = ON;", "PRAGMA writable_schema: remove the statement"),
        ("PRAGMA mmap_size = 1000000;", "PRAGMA mmap_size: remove the statement"),
        ("DELETE FROM _isomer_migrations;", "is managed by Isomer"),
        ("CREATE TABLE x (a); COMMIT; INSERT INTO nowhere VALUES (1);", "no such table: nowhere"),
    ] {
        let app = App::new(&[CREATE, ("002_bad.sql", statements)]);
        let refused = app.refused().await;
        assert!(refused.contains("002_bad.sql") && refused.contains(why), "{statements}: {refused}");
        fs::remove_file(app.file("002_bad.sql")).unwrap();
        app.open().await.unwrap();
    }
}

#[tokio::test]
async fn statements_that_programs_put_around_a_migration_do_nothing() {
    // Migrations as `sqlite3 .dump`, Prisma, drizzle-kit and sqlx write them.
    let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);\n\
                INSERT INTO t VALUES(1,'a');\nCOMMIT;\n";
    let redefine = "-- RedefineTables\nPRAGMA defer_foreign_keys=ON;\nPRAGMA foreign_keys=OFF;\nCREATE TABLE \"new_t\" (\"id\" INTEGER \
                    NOT NULL PRIMARY KEY, \"name\" TEXT NOT NULL);\nINSERT INTO \"new_t\" SELECT \"id\", \"name\" FROM \"t\";\n\
                    DROP TABLE \"t\";\nALTER TABLE \"new_t\" RENAME TO \"t\";\nPRAGMA foreign_keys=ON;\nPRAGMA defer_foreign_keys=OFF;\n";
    let statements = "pragma journal_mode = wal;--> statement-breakpoint\nbegin immediate;\nsavepoint s;\n\
                      INSERT INTO t VALUES (2, 'b');\nrelease s;\nend;\nBEGIN;\nINSERT INTO t VALUES (3, 'c');\nCOMMIT;";
    let child = "CREATE TABLE child (t INTEGER REFERENCES t (id)); INSERT INTO child VALUES (1);";
    let app = App::new(&[("1.sql", dump), ("2.sql", child), ("3.sql", redefine), ("4.sql", statements)]);
    let store = app.open().await.unwrap();
    assert_eq!(names(&store).await.len(), 3);
    let orphan = store.execute("INSERT INTO child VALUES (9)".to_owned(), vec![]).await;
    assert!(matches!(orphan, Err(SqlError::Constraint(_))), "foreign keys are on: {orphan:?}");
    for denied in ["BEGIN", "COMMIT", "PRAGMA foreign_keys = OFF", "PRAGMA journal_mode = delete"] {
        let refused = store.execute(denied.to_owned(), vec![]).await;
        assert!(matches!(refused, Err(SqlError::Statement(_))), "{denied} of a component: {refused:?}");
    }
    drop(store);
    app.write("5.sql", "BEGIN;\nDELETE FROM t WHERE id = 1;\nCOMMIT;");
    let refused = app.refused().await;
    assert!(
        refused.contains("5.sql") && refused.contains("`child`"),
        "a migration must not leave rows without their parent: {refused}"
    );
}

#[tokio::test]
async fn extensions_are_matched_in_any_case() {
    let app = App::new(&[("1.SQL", CREATE.1), ("2.Sql", FILL.1), ("3.sql~", "no SQL"), ("4.sql.txt", "no SQL")]);
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 2);
}

#[tokio::test]
async fn backward_migrations_are_not_applied() {
    let back = "DROP TABLE t;";
    let app = App::new(&[
        ("1_t.down.sql", back),
        ("1_t.up.sql", CREATE.1),
        ("2_fill.DOWN.sql", back),
        ("2_fill.up.SQL", FILL.1),
    ]);
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 2);
    app.write("3_slow.down.sql", "INSERT INTO t (name) VALUES ('c');");
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 3, "a down file without an up file is a migration");
    app.write(
        "4_both.sql",
        "-- +goose Up\r\nINSERT INTO t (name) VALUES ('d');\r\n-- +goose Down\r\nDROP TABLE t;\r\n",
    );
    app.write("5_both.sql", "-- migrate:up\nINSERT INTO t (name) VALUES ('e');\n\n-- migrate:down\nDELETE FROM t;\n");
    assert_eq!(
        names(&app.open().await.unwrap()).await.len(),
        5,
        "backward statements in the same file are not applied"
    );
}

#[tokio::test]
async fn a_folder_of_folders_with_migrations_is_refused() {
    let app = App::new(&[]);
    app.open().await.unwrap();
    fs::create_dir(app.file("20240101_init")).unwrap();
    app.write("20240101_init/migration.sql", CREATE.1);
    let error = app.open().await.err().expect("refused");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("`20240101_init`") && source.contains("one folder"), "{source}");
}

#[tokio::test]
async fn a_table_that_others_refer_to_can_be_rebuilt_but_not_orphan_them() {
    let rebuild = "CREATE TABLE t2 (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
                   INSERT INTO t2 SELECT id, name FROM t;
                   DROP TABLE t;
                   ALTER TABLE t2 RENAME TO t;";
    let child = "CREATE TABLE child (t INTEGER REFERENCES t (id)); INSERT INTO child VALUES (1);";
    let app = App::new(&[CREATE, FILL, ("003_child.sql", child), ("004_rebuild.sql", rebuild)]);
    let store = app.open().await.unwrap();
    assert_eq!(names(&store).await.len(), 2);
    let orphan = store.execute("INSERT INTO child VALUES (9)".to_owned(), vec![]).await;
    assert!(matches!(orphan, Err(SqlError::Constraint(_))), "foreign keys are on again: {orphan:?}");
    drop(store);
    app.write("005_orphan.sql", "DELETE FROM t WHERE id = 1;");
    let refused = app.refused().await;
    assert!(refused.contains("005_orphan.sql") && refused.contains("`child`"), "{refused}");
}

#[tokio::test]
async fn an_open_store_accepts_new_migrations_and_survives_bad_ones() {
    let app = App::new(&[CREATE, FILL]);
    let sql = Sql::new(app.data.path(), SqlLimits::default());
    let settings = SqlSettings { migrations: Some(app.migrations.path().to_owned()), statement_time: None };
    let first = sql.open("test", settings.clone()).await.unwrap();
    app.write("003_more.sql", "INSERT INTO t (name) VALUES ('c');");
    let second = sql.open("test", settings.clone()).await.unwrap();
    assert_eq!((names(&first).await.len(), names(&second).await.len()), (3, 3));
    app.write("004_bad.sql", "INSERT INTO nowhere (name) VALUES ('d');");
    let refused = sql.open("test", settings.clone()).await.err().expect("opened").to_string();
    assert!(refused.contains("004_bad.sql"), "{refused}");
    let create = "CREATE TABLE child (t INTEGER REFERENCES t (id)) STRICT";
    first.execute(create.to_owned(), vec![]).await.unwrap();
    let orphan = first.execute("INSERT INTO child (t) VALUES (99)".to_owned(), vec![]).await;
    assert!(matches!(orphan, Err(SqlError::Constraint(_))), "{orphan:?}");
}

#[tokio::test]
async fn line_endings_do_not_change_a_migration() {
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let text = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO t (name) VALUES ('two\nlines');\n";
    let app = App::new(&[("001.sql", &crlf(text))]);
    assert_eq!(
        names(&app.open().await.unwrap()).await,
        [Value::Text("two\nlines".to_owned())],
        "line endings in strings are also converted"
    );
    app.write("001.sql", text);
    app.open().await.unwrap();
    app.write("001.sql", &crlf(text));
    app.open().await.unwrap();
    app.write("001.sql", &text.replace("lines", "words"));
    assert!(app.refused().await.contains("was changed"));
    // Earlier Isomer versions recorded the hash of the file as it was, with its line endings.
    for (recorded, now) in [(crlf(text), text.to_owned()), (text.to_owned(), crlf(text)), (crlf(text), crlf(text))] {
        use sha2::{Digest as _, Sha256};
        let app = App::new(&[("001.sql", text)]);
        drop(app.open().await.unwrap());
        let hash = format!("{:x}", Sha256::digest(recorded.as_bytes()));
        let file = app.data.path().join("test.sqlite");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.execute("UPDATE _isomer_migrations SET sha256 = ?1", [hash]).unwrap();
        drop(connection);
        app.write("001.sql", &now);
        app.open().await.unwrap();
    }
}

#[tokio::test]
async fn a_revision_starts_on_a_newer_schema() {
    let app = App::new(&[CREATE, FILL]);
    app.write("003_more.sql", "ALTER TABLE t ADD COLUMN more TEXT;");
    app.open().await.unwrap();
    fs::remove_file(app.file("003_more.sql")).unwrap();
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 2, "the revision starts on the newer schema");
    // From here on, the migrations of this revision differ from those of the later revision.
    app.write("004_other.sql", "INSERT INTO t (name) VALUES ('c');");
    assert_eq!(names(&app.open().await.unwrap()).await.len(), 3);
    app.write(FILL.0, "DELETE FROM t;");
    assert!(app.refused().await.contains("was changed"), "the revision's own migrations are still checked");
    fs::remove_file(app.file(FILL.0)).unwrap();
    assert!(app.refused().await.contains("is missing"));
}

#[tokio::test]
async fn all_pending_migrations_are_applied_or_none() {
    let app = App::new(&[CREATE]);
    drop(app.open().await.unwrap());
    let file = app.data.path().join("test.sqlite");
    let before = fs::read(&file).unwrap();
    app.write("002_good.sql", "CREATE TABLE good (x);");
    app.write("003_bad.sql", "INSERT INTO nowhere VALUES (1);");
    assert!(app.refused().await.contains("003_bad.sql"));
    assert!(fs::read(&file).unwrap() == before, "the store's file is unchanged");
    fs::remove_file(app.file("003_bad.sql")).unwrap();
    let store = app.open().await.unwrap();
    store.execute("INSERT INTO good VALUES (1)".to_owned(), vec![]).await.unwrap();
}

#[tokio::test]
async fn the_check_of_foreign_keys_is_bounded_like_the_migration() {
    let family = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent);
        INSERT INTO parent VALUES (1);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            INSERT INTO child SELECT i, 1 FROM n;";
    let app = App::new(&[("001.sql", family)]);
    app.open().await.unwrap();
    app.write("002.sql", "-- Nothing to do: only the check takes time.");
    let open = async |migration_time| {
        let sql = Sql::new(app.data.path(), SqlLimits { migration_time, ..SqlLimits::default() });
        let migrations = Some(app.migrations.path().to_owned());
        sql.open("test", SqlSettings { migrations, statement_time: None }).await.map(drop)
    };
    let refused = open(std::time::Duration::ZERO).await.unwrap_err().to_string();
    assert!(refused.contains("002.sql") && refused.contains("time limit"), "{refused}");
    open(std::time::Duration::from_secs(60)).await.unwrap();
}
