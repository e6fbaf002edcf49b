//! The app whose deployments change the schema of a store, and functions with which tests read and write the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use isomer_api::{ApiProblem, ProblemKind};

use crate::node::{TestNode, TestRelease, custom};

/// Returns a release with `count` migrations of the store `default`. The first migration creates the table `note`, and
/// each further migration adds a column to this table.
pub(crate) fn with_migrations(count: usize) -> TestRelease {
    let lines = format!("grants.sql = [\"default\"]\ngrants.config = {{ MIGRATIONS = \"{count}\" }}");
    let mut release = custom("sql-probe", &lines, "[sql.default]\nmigrations = \"sql\"")
        .file("sql/001.sql", "CREATE TABLE note (text TEXT);\nINSERT INTO note VALUES ('first');\n");
    for number in 2..=count {
        let sql = format!("ALTER TABLE note ADD COLUMN c{number} TEXT DEFAULT '{number}';\n");
        release = release.file(&format!("sql/{number:03}.sql"), &sql);
    }
    release
}

pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

pub(crate) async fn run(node: &TestNode, what: &str, sql: &str) -> String {
    let (status, body) = node.get(&format!("/{what}?sql={}", encoded(sql))).await;
    assert_eq!(status, 200, "{sql}: {body}");
    body
}

pub(crate) async fn write(node: &TestNode, text: &str) {
    assert_eq!(run(node, "execute", &format!("INSERT INTO note (text) VALUES ('{text}')")).await, "changed=1\n");
}

pub(crate) async fn notes(node: &TestNode) -> Vec<String> {
    let rows = run(node, "query", "SELECT text FROM note ORDER BY rowid").await;
    rows.lines().skip(1).map(|line| line.strip_prefix("t:").unwrap().to_owned()).collect()
}

pub(crate) async fn columns(node: &TestNode) -> usize {
    run(node, "query", "SELECT name FROM pragma_table_info('note')").await.lines().count() - 1
}

/// Returns the paths and contents of all files in the app's data, except its log and traces. Leaves out the `-shm` files and empty
/// `-wal` files that SQLite keeps next to an open store.
pub(crate) fn data(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.join("tenants"), dir.join("trials"), dir.join("takeovers")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with("-shm") || (name.ends_with("-wal") && fs::metadata(&path).unwrap().len() == 0) {
                // Skip `-shm` files and empty `-wal` files, because a killed process may leave them.
            } else if !["log", "traces"].iter().any(|part| path.parent().unwrap().ends_with(part)) {
                found.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub(crate) async fn refused<T: std::fmt::Debug>(
    reply: impl Future<Output = Result<T, ApiProblem>>,
    kind: ProblemKind,
) -> ApiProblem {
    let problem = reply.await.unwrap_err();
    assert_eq!(problem.kind, kind, "{problem:?}");
    problem
}

pub(crate) fn same(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>, at: &str) {
    let names = |data: &BTreeMap<String, Vec<u8>>| data.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{at}");
    for (name, bytes) in before {
        assert!(after[name] == *bytes, "{at}: {name} has changed");
    }
}
