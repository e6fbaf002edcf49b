//! Migrations: the `.sql` files of a folder (with the extension in upper or lower case), each applied once, in the
//! order of their names.
//!
//! All new migrations are applied in one transaction, together with their records (name and SHA-256) in a table of the
//! store. So the store changes from one schema to the next completely or not at all. Foreign keys are checked at the
//! end of each file and not at each statement. Otherwise, a table that other tables refer to could not be altered by
//! rebuilding it, as SQLite's documentation recommends.
//!
//! Applied files must not change: a changed file, a missing file, or a new file before an applied one is an error. An
//! older revision may be started with a store that a later revision has migrated, if the names of the later migrations
//! come after the names of all its own files. The older revision then uses the newer schema. Line endings affect
//! neither the hash nor the statements, so a checkout with CRLF has the same migrations.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension as _};
use sha2::{Digest, Sha256};

use super::authorizer::MIGRATIONS_TABLE;
use super::sections::forward;
use super::session::Session;
use super::{SqlError, SqlOpenError};

/// The maximum number of entries of one folder that [`folder_of_migrations`] searches.
const ENTRIES_SEARCHED_MAX: usize = 1000;

/// The migrations of one store in one revision of the app.
pub(super) struct Migrations {
    store: String,
    folder: PathBuf,
    files: Vec<Migration>,
}

struct Migration {
    name: String,
    path: PathBuf,
    /// The statements to run, with LF line endings, and without statements that revert the migration.
    statements: String,
    sha256: String,
    /// The hashes that earlier Isomer versions may have recorded: of the file as it is, and of the file with CRLF line
    /// endings.
    sha256_as_written: [String; 2],
}

/// How a store's schema differs from the migrations of a revision: the migrations that are pending, and those that only
/// a later revision has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The names of the migrations that have not been applied yet, in order.
    pub pending: Vec<String>,
    /// The names of the applied migrations that the revision does not have because a later revision added them, in
    /// order.
    pub newer: Vec<String>,
}

impl Migrations {
    /// Reads the migrations in `folder`. Blocks the thread.
    pub(super) fn read(store: &str, folder: &Path) -> Result<Self, SqlOpenError> {
        let files = read(folder)?.into_iter().map(|file| Migration::new(file.name, file.path, &file.text)).collect();
        Ok(Self { store: store.to_owned(), folder: folder.to_owned(), files })
    }

    /// Compares the schema of the store of `session` with these migrations. Changes nothing.
    pub(super) fn schema(&self, session: &Session) -> Result<Schema, SqlOpenError> {
        let _entered = session.enter();
        let applied = recorded(session).map_err(|source| self.unreadable(source))?;
        let pending = self.pending(&applied)?.iter().map(|file| file.name.clone()).collect();
        let is_own = |name: &String| self.files.iter().any(|file| file.name == *name);
        Ok(Schema { pending, newer: applied.into_keys().filter(|name| !is_own(name)).collect() })
    }

    /// Returns the result for a store that does not exist: all migrations are pending.
    pub(super) fn schema_of_none(&self) -> Schema {
        Schema { pending: self.files.iter().map(|file| file.name.clone()).collect(), newer: Vec::new() }
    }

    /// Applies all pending migrations, or none, to the store of `session`. Returns how the schema differed from the
    /// migrations before the call.
    pub(super) fn apply(&self, session: &Session, deadline: Instant) -> Result<Schema, SqlOpenError> {
        let _entered = session.enter();
        let schema = self.schema(session)?;
        if !schema.newer.is_empty() {
            tracing::info!(
                store = self.store,
                newer = schema.newer.join(", "),
                "the store's schema is newer than the migrations of this revision"
            );
        }
        if schema.pending.is_empty() {
            return Ok(schema);
        }
        let pending = &self.files[self.files.len() - schema.pending.len()..];
        let foreign_keys = |on| {
            let set = session.connection().pragma_update(None, "foreign_keys", on);
            set.map_err(|source| self.unreadable(source))
        };
        foreign_keys(false)?;
        let done = apply_all(session, pending, deadline).map_err(|(file, message)| {
            // If the commit fails, the error names the last migration.
            let path = file.or(pending.last()).map_or_else(|| self.folder.clone(), |file| file.path.clone());
            SqlOpenError::MigrationFailed { store: self.store.clone(), path, message }
        });
        session.roll_back();
        // Turns foreign keys on again even after a failure, because an open store continues to use this connection.
        foreign_keys(true)?;
        done?;
        tracing::info!(store = self.store, migrations = schema.pending.join(", "), "migrations applied");
        Ok(schema)
    }

    /// Returns the migrations that have not been applied yet. Returns an error if an applied file was changed or is
    /// missing, or if the name of a new file comes before the name of an applied one.
    fn pending(&self, applied: &BTreeMap<String, String>) -> Result<&[Migration], SqlOpenError> {
        let store = || self.store.clone();
        let Some(last) = self.files.iter().rposition(|file| applied.contains_key(&file.name)) else {
            return Ok(&self.files);
        };
        let (own, pending) = self.files.split_at(last + 1);
        for file in own {
            match applied.get(&file.name) {
                Some(sha256) if file.is_recorded_as(sha256) => {}
                Some(_) => {
                    return Err(SqlOpenError::MigrationChanged { store: store(), path: file.path.clone() });
                }
                None => {
                    let applied = own[last].name.clone();
                    return Err(SqlOpenError::MigrationOutOfOrder { store: store(), path: file.path.clone(), applied });
                }
            }
        }
        let is_missing = |name: &&String| **name < own[last].name && !own.iter().any(|file| file.name == **name);
        match applied.keys().find(is_missing) {
            Some(name) => Err(SqlOpenError::MigrationMissing { store: store(), path: self.folder.join(name) }),
            None => Ok(pending),
        }
    }

    fn unreadable(&self, source: rusqlite::Error) -> SqlOpenError {
        SqlOpenError::Open { path: self.folder.clone(), source }
    }
}

impl Migration {
    fn new(name: String, path: PathBuf, text: &str) -> Self {
        let plain = with_plain_line_ends(text);
        let hash = |text: &str| format!("{:x}", Sha256::digest(text.as_bytes()));
        Self {
            // Only the forward statements run. But the hash covers the whole file, because earlier Isomer versions ran
            // and recorded the whole file.
            sha256: hash(&plain),
            sha256_as_written: [hash(text), hash(&plain.replace('\n', "\r\n"))],
            statements: forward(&plain).into_owned(),
            name,
            path,
        }
    }

    fn is_recorded_as(&self, sha256: &str) -> bool {
        self.sha256 == sha256 || self.sha256_as_written.iter().any(|written| written == sha256)
    }
}

fn with_plain_line_ends(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

type Failure<'a> = (Option<&'a Migration>, String);

/// Applies migrations in one transaction. Leaves the transaction open if one of them fails.
fn apply_all<'a>(session: &Session, files: &'a [Migration], deadline: Instant) -> Result<(), Failure<'a>> {
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (
            name TEXT NOT NULL PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
    );
    let without_file = |error: &dyn std::fmt::Display| (None, error.to_string());
    session.begin().map_err(|error| without_file(&error))?;
    session.internal(&create).map_err(|error| without_file(&error))?;
    for file in files {
        apply_one(session, file, deadline).map_err(|message| (Some(file), message))?;
    }
    session.internal("COMMIT").map_err(|error| without_file(&error))
}

fn apply_one(session: &Session, file: &Migration, deadline: Instant) -> Result<(), String> {
    session.migrate(&file.statements, deadline).map_err(|error| message_with_advice(&error))?;
    // Runs the check of the foreign keys with the limits of a migration, because it reads all tables, which may be
    // large.
    if let Some(table) = session.bounded(deadline, violation).map_err(|error| error.to_string())? {
        return Err(format!("the migration leaves rows in the table `{table}` whose foreign keys refer to no row"));
    }
    let record = format!("INSERT INTO {MIGRATIONS_TABLE} VALUES (?1, ?2, datetime('now'))");
    session.connection().execute(&record, (&file.name, &file.sha256)).map_err(|error| error.to_string())?;
    Ok(())
}

/// Returns SQLite's message about a statement of a migration. Adds advice to the message about VACUUM.
fn message_with_advice(error: &SqlError) -> String {
    let mut text = error.to_string();
    // The authorizer cannot add this advice, because SQLite refuses VACUUM in a transaction without calling the
    // authorizer.
    if text.contains("cannot VACUUM") {
        text += ": remove the statement, because migrations run in a transaction";
    }
    text
}

/// Returns the name of a table that contains a foreign key to a row that does not exist. Returns `None` if all foreign
/// keys are valid.
fn violation(connection: &Connection) -> Result<Option<String>, rusqlite::Error> {
    connection.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()
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

/// A file of the migrations.
struct MigrationFile {
    name: String,
    path: PathBuf,
    text: String,
}

/// Returns the names and contents of the migrations in `folder`, in the order in which they are applied.
///
/// # Errors
/// If the folder or a file in it cannot be read.
pub fn migration_files(folder: &Path) -> Result<Vec<(String, String)>, SqlOpenError> {
    Ok(read(folder)?.into_iter().map(|file| (file.name, file.text)).collect())
}

fn read(folder: &Path) -> Result<Vec<MigrationFile>, SqlOpenError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| SqlOpenError::MigrationUnreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("sql")) || !path.is_file() {
            continue;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidFilename, "the file's name is not UTF-8");
            return Err(SqlOpenError::MigrationUnreadable { path, source });
        };
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        files.push(MigrationFile { name, path, text });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    remove_reverting_files(&mut files);
    if files.is_empty()
        && let Some(inner) = folder_of_migrations(folder)
    {
        let source = std::io::Error::other(format!(
            "the folder contains no `.sql` file, but the folder `{inner}` in it does: put all files into one folder"
        ));
        return Err(SqlOpenError::MigrationUnreadable { path: folder.to_owned(), source });
    }
    Ok(files)
}

/// Removes each file `NAME.down.sql` that reverts a file `NAME.up.sql`. Otherwise it would be applied too, and even
/// first, because of its name.
fn remove_reverting_files(files: &mut Vec<MigrationFile>) {
    let forward: BTreeSet<String> =
        files.iter().filter_map(|file| Some(stem(&file.name, ".up.sql")?.to_owned())).collect();
    files.retain(|file| stem(&file.name, ".down.sql").is_none_or(|name| !forward.contains(name)));
}

/// Returns `name` without the extension `end`, ignoring case; `None` if `name` has a different extension.
fn stem<'a>(name: &'a str, end: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(end.len())?;
    name.is_char_boundary(at)
        .then(|| name.split_at(at))
        .filter(|(_, tail)| tail.eq_ignore_ascii_case(end))
        .map(|it| it.0)
}

/// Returns the name of the first folder in `folder` that contains migrations. Used for the error if `folder` itself
/// contains no migrations, because some programs create a folder for each migration.
fn folder_of_migrations(folder: &Path) -> Option<String> {
    let has_migrations = |path: &Path| {
        let files = std::fs::read_dir(path).into_iter().flatten().flatten();
        files
            .take(ENTRIES_SEARCHED_MAX)
            .any(|file| file.path().extension().is_some_and(|it| it.eq_ignore_ascii_case("sql")))
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten().take(ENTRIES_SEARCHED_MAX);
    let folders = entries.filter(|entry| entry.path().is_dir() && has_migrations(&entry.path()));
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).min()
}
