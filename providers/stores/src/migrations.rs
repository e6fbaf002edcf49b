//! Applies the app's migrations when a store is first opened. The rules are those of a node: each file once, in the order
//! of names, all new files in one transaction, and applied files must not change.

use std::collections::BTreeMap;
use std::time::Instant;

use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};

use crate::rules::authorizer::MIGRATIONS_TABLE;
use crate::rules::sections::forward;
use crate::session::{MIGRATION_TIME, Session, describe};
use crate::settings::MigrationFile;

/// A migration, with LF line endings.
struct Migration<'a> {
    name: &'a str,
    text: String,
    sha256: String,
    /// The hashes that a node may have recorded: of the file as it is, and of the file with CRLF line endings.
    sha256_as_written: [String; 2],
}

impl<'a> Migration<'a> {
    fn new(file: &'a MigrationFile) -> Self {
        let text = file.text.replace("\r\n", "\n");
        let hash =
            |text: &str| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self {
            sha256: hash(&text),
            sha256_as_written: [hash(&file.text), hash(&text.replace('\n', "\r\n"))],
            name: &file.name,
            text,
        }
    }

    fn is_recorded_as(&self, sha256: &str) -> bool {
        self.sha256 == sha256 || self.sha256_as_written.iter().any(|written| written == sha256)
    }
}

/// Returns whether the store lacks a migration.
pub(crate) fn is_pending(session: &Session, store: &str, files: &[MigrationFile]) -> Result<bool, String> {
    let files: Vec<_> = files.iter().map(Migration::new).collect();
    let applied = recorded(session).map_err(|error| error.to_string())?;
    Ok(!pending(store, &files, &applied)?.is_empty())
}

/// Applies all pending migrations, or none. The caller holds the store's lock.
pub(crate) fn apply(session: &Session, store: &str, files: &[MigrationFile]) -> Result<(), String> {
    let foreign_keys =
        |on: bool| session.connection().pragma_update(None, "foreign_keys", on).map_err(|error| error.to_string());
    foreign_keys(false)?;
    let done = apply_all(session, store, files);
    session.roll_back();
    foreign_keys(true)?;
    done
}

fn apply_all(session: &Session, store: &str, files: &[MigrationFile]) -> Result<(), String> {
    let files: Vec<_> = files.iter().map(Migration::new).collect();
    let deadline = Instant::now() + MIGRATION_TIME;
    let failed = |name: &str, message: &str| {
        format!("the migration `{name}` of the SQL store `{store}` failed, and no part of it was applied: {message}")
    };
    session.internal("BEGIN IMMEDIATE").map_err(|error| describe(&error))?;
    // Read in the transaction, because another instance may have applied them in the meantime.
    let applied = recorded(session).map_err(|error| error.to_string())?;
    let pending = pending(store, &files, &applied)?;
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (
            name TEXT NOT NULL PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
    );
    session.internal(&create).map_err(|error| describe(&error))?;
    for file in pending {
        apply_one(session, file, deadline).map_err(|message| failed(file.name, &message))?;
    }
    let last = pending.last().map_or("", |file| file.name);
    session.internal("COMMIT").map_err(|error| failed(last, &describe(&error)))
}

fn apply_one(session: &Session, file: &Migration<'_>, deadline: Instant) -> Result<(), String> {
    session.migrate(&forward(&file.text), deadline).map_err(|error| {
        let text = describe(&error);
        let advice = ": remove the statement, because migrations run in a transaction";
        if text.contains("cannot VACUUM") { text + advice } else { text }
    })?;
    let violation = |connection: &rusqlite::Connection| {
        connection.query_row("PRAGMA foreign_key_check", [], |row| row.get::<_, String>(0)).optional()
    };
    if let Some(table) = session.bounded(deadline, violation).map_err(|error| describe(&error))? {
        return Err(format!("the migration leaves rows in the table `{table}` whose foreign keys refer to no row"));
    }
    let record = format!("INSERT INTO {MIGRATIONS_TABLE} VALUES (?1, ?2, datetime('now'))");
    session.connection().execute(&record, (&file.name, &file.sha256)).map_err(|error| error.to_string())?;
    Ok(())
}

/// Returns the migrations that have not been applied yet, or an error if an applied file was changed or is missing, or if
/// the name of a new file comes before that of an applied one.
fn pending<'a, 'b>(
    store: &str,
    files: &'a [Migration<'b>],
    applied: &BTreeMap<String, String>,
) -> Result<&'a [Migration<'b>], String> {
    let Some(last) = files.iter().rposition(|file| applied.contains_key(file.name)) else { return Ok(files) };
    let (own, pending) = files.split_at(last + 1);
    for file in own {
        let name = file.name;
        match applied.get(name) {
            Some(sha256) if file.is_recorded_as(sha256) => {}
            Some(_) => {
                return Err(format!(
                    "the migration `{name}` was changed after it had been applied to the SQL store `{store}`: restore the file, and make the change in a new file"
                ));
            }
            None => {
                let applied = own[last].name;
                return Err(format!(
                    "the migration `{name}` is new, but its name comes before `{applied}`, which was applied to the SQL store `{store}` already: give the file a later name"
                ));
            }
        }
    }
    let is_missing = |name: &&String| name.as_str() < own[last].name && !own.iter().any(|file| file.name == *name);
    match applied.keys().find(is_missing) {
        Some(name) => Err(format!(
            "the migration `{name}` is missing, but was applied to the SQL store `{store}`: restore the file"
        )),
        None => Ok(pending),
    }
}

/// Returns the recorded hashes of the applied migrations, by name.
fn recorded(session: &Session) -> Result<BTreeMap<String, String>, rusqlite::Error> {
    let connection = session.connection();
    let is_table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    if !connection.prepare(is_table)?.exists([MIGRATIONS_TABLE])? {
        return Ok(BTreeMap::new());
    }
    let mut statement = connection.prepare(&format!("SELECT name, sha256 FROM {MIGRATIONS_TABLE}"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
