//! Migrations: `.sql` files of a folder, applied once each, in the order of their names.
//!
//! Each is applied in a transaction together with the record of it (name and SHA-256) in a table of the store, so it is there
//! whole or not at all. Foreign keys are checked at its end, not at each statement: else no table that others refer to could be
//! rebuilt (SQLite's way to alter one). What has been applied can't change: a changed or missing file, or a new one before it, is refused.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::OptionalExtension;
use sha2::{Digest, Sha256};

use super::SqlOpenError;
use super::authorizer::MIGRATIONS_TABLE;
use super::session::Session;

struct Migration {
    name: String,
    path: PathBuf,
    sha256: String,
    statements: String,
}

/// Bring the store behind `session` up to date with `folder`.
pub(super) fn apply(store: &str, session: &Session, folder: &Path, time: Duration) -> Result<(), SqlOpenError> {
    let files = read(folder)?;
    let _entered = session.enter();
    let open = |source| SqlOpenError::Open { path: folder.to_owned(), source };
    session
        .connection()
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (
                name TEXT NOT NULL PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
        ))
        .map_err(open)?;
    let applied = recorded(session).map_err(open)?;
    check(store, folder, &files, &applied)?;
    let deadline = Instant::now() + time;
    let foreign_keys = |on| session.connection().pragma_update(None, "foreign_keys", on).map_err(open);
    foreign_keys(false)?;
    let done = files[applied.len()..].iter().try_for_each(|file| {
        apply_one(session, file, deadline).map_err(|message| SqlOpenError::MigrationFailed {
            store: store.to_owned(),
            path: file.path.clone(),
            message,
        })?;
        tracing::info!(store, migration = %file.name, "migration applied");
        Ok(())
    });
    // Also after a failure: the connection of a store that was open before goes on being used.
    foreign_keys(true)?;
    done
}

/// What was applied must be how the list of files begins.
fn check(store: &str, folder: &Path, files: &[Migration], applied: &[(String, String)]) -> Result<(), SqlOpenError> {
    let store = || store.to_owned();
    for (name, sha256) in applied {
        let Some(file) = files.iter().find(|file| &file.name == name) else {
            return Err(SqlOpenError::MigrationMissing { store: store(), path: folder.join(name) });
        };
        if &file.sha256 != sha256 {
            return Err(SqlOpenError::MigrationChanged { store: store(), path: file.path.clone() });
        }
    }
    if let Some((last, _)) = applied.last() {
        let early = files.iter().find(|file| &file.name < last && !applied.iter().any(|(name, _)| name == &file.name));
        if let Some(file) = early {
            return Err(SqlOpenError::MigrationOutOfOrder {
                store: store(),
                path: file.path.clone(),
                applied: last.clone(),
            });
        }
    }
    Ok(())
}

fn apply_one(session: &Session, file: &Migration, deadline: Instant) -> Result<(), String> {
    let run = || {
        session.begin().map_err(|error| error.to_string())?;
        session.migrate(&file.statements, deadline).map_err(|error| error.to_string())?;
        if let Some(table) = violation(session).map_err(|error| error.to_string())? {
            return Err(format!("it leaves rows in the table `{table}` whose foreign keys point to nothing"));
        }
        session
            .connection()
            .execute(
                &format!("INSERT INTO {MIGRATIONS_TABLE} VALUES (?1, ?2, datetime('now'))"),
                (&file.name, &file.sha256),
            )
            .map_err(|error| error.to_string())?;
        session.internal("COMMIT").map_err(|error| error.to_string())
    };
    let result = run();
    session.roll_back();
    result
}

/// A table with a row whose foreign key points to nothing.
fn violation(session: &Session) -> Result<Option<String>, rusqlite::Error> {
    session.connection().query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()
}

/// Names and hashes of what was applied, in the order of names.
fn recorded(session: &Session) -> Result<Vec<(String, String)>, rusqlite::Error> {
    let mut statement =
        session.connection().prepare(&format!("SELECT name, sha256 FROM {MIGRATIONS_TABLE} ORDER BY name"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn read(folder: &Path) -> Result<Vec<Migration>, SqlOpenError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| SqlOpenError::MigrationUnreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_none_or(|extension| extension != "sql") || !path.is_file() {
            continue;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidFilename, "its name isn't UTF-8");
            return Err(SqlOpenError::MigrationUnreadable { path, source });
        };
        let statements = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        let sha256 = format!("{:x}", Sha256::digest(statements.as_bytes()));
        files.push(Migration { name, path, sha256, statements });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
