//! A key-value store as a table of a SQLite database. All functions block: an operation is short, and in WIT it is not
//! asynchronous.
//!
//! As on a node, each change of an entry gives it a new version, and no version is used twice, so that comparing versions
//! detects every change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use crate::exports::isomer::sql::types::Error;
use crate::lock::Lock;
use crate::rules::cursors::Cursors;
use crate::rules::size::size;
use crate::session::{Session, WAIT_TIME, describe};
use crate::settings::{Kind, settings};

const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 8 << 20;
/// The maximum size of a row: a value, its key, and their headers.
const ROW_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
const BATCH_KEYS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 16 << 20;
const PAGE_KEYS_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 256 << 10;
/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(2);

const OVERLOADED: &str = "the store has too many operations waiting: try again later";

pub(crate) struct KvStore {
    dir: PathBuf,
    session: Session,
    cursors: RefCell<Cursors>,
}

/// The version of a key that was read, for compare-and-swap.
#[derive(Clone)]
pub(crate) struct Cas {
    key: String,
    version: Option<i64>,
}

pub(crate) enum Swap {
    Swapped,
    Changed(Cas),
}

pub(crate) struct KeyPage {
    pub(crate) keys: Vec<String>,
    pub(crate) next: Option<String>,
}

type Result<T> = std::result::Result<T, String>;

thread_local! {
    static OPEN: RefCell<HashMap<String, Rc<KvStore>>> = RefCell::default();
}

impl KvStore {
    /// Opens a store, and creates it if it does not exist.
    pub(crate) fn open(name: &str) -> Result<Rc<Self>> {
        if let Some(store) = OPEN.with_borrow(|open| open.get(name).cloned()) {
            return Ok(store);
        }
        let dir = settings().folder(Kind::Kv, name)?;
        let session = Session::open(&dir, None, ROW_BYTES_MAX).map_err(|error| describe(&error))?;
        let store = Self { dir, session, cursors: RefCell::default() };
        let is_new = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
        };
        if store.read(is_new)? == 0 {
            store.write(|connection| {
                connection
                    .execute_batch(
                        "CREATE TABLE IF NOT EXISTS entries (key TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL,
                            value BLOB NOT NULL) STRICT, WITHOUT ROWID;
                         CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL) STRICT;
                         INSERT OR IGNORE INTO meta VALUES ('format', 1), ('version', 0);",
                    )
                    .map_err(failed)
            })?;
        }
        let store = Rc::new(store);
        Ok(OPEN.with_borrow_mut(|open| open.entry(name.to_owned()).or_insert(store).clone()))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        self.read(|connection| value(connection, key))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        check_key(key)?;
        self.read(|connection| version(connection, key)).map(|version| version.is_some())
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        // In one transaction, so that the values belong to the same state.
        let values = self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let value = value(&transaction, key)?;
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > BATCH_BYTES_MAX {
                    return Ok(None);
                }
                values.push(value);
            }
            Ok(Some(values))
        })?;
        values.ok_or_else(batch_too_large)
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<()> {
        check_batch(entries.len())?;
        let mut bytes = 0;
        for (key, value) in entries {
            check_key(key)?;
            check_value(key, value)?;
            bytes += key.len() + value.len();
        }
        if entries.len() > 1 && bytes > BATCH_BYTES_MAX {
            return Err(batch_too_large());
        }
        self.write(|connection| entries.iter().try_for_each(|(key, value)| put(connection, key, value)))
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<()> {
        check_batch(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.write(|connection| {
            for key in keys {
                let mut statement = connection.prepare_cached("DELETE FROM entries WHERE key = ?1").map_err(failed)?;
                if statement.execute([key]).map_err(failed)? > 0 {
                    next_version(connection)?;
                }
            }
            Ok(())
        })
    }

    /// Returns a page of keys, in the order of their bytes, from the first key greater than `after`.
    pub(crate) fn list_keys(&self, after: Option<&str>) -> Result<KeyPage> {
        if let Some(after) = after {
            check_key(after)?;
        }
        self.read(|connection| {
            // An empty key is possible, so the condition is left out if there is no `after`.
            let sql = match after {
                Some(_) => "SELECT key FROM entries WHERE key > ?1 ORDER BY key",
                None => "SELECT key FROM entries WHERE ?1 IS NULL ORDER BY key",
            };
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([after])?;
            let (mut keys, mut bytes) = (Vec::<String>::new(), 0);
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_str()?;
                let full = keys.len() >= PAGE_KEYS_MAX || bytes + key.len() > PAGE_BYTES_MAX;
                if full && !keys.is_empty() {
                    return Ok(KeyPage { next: keys.last().cloned(), keys });
                }
                bytes += key.len();
                keys.push(key.to_owned());
            }
            Ok(KeyPage { keys, next: None })
        })
    }

    /// Lists keys like [`KvStore::list_keys`], for an interface with numeric cursors. A cursor is valid in this instance.
    pub(crate) fn list_keys_numbered(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>)> {
        let after = match cursor {
            None => None,
            Some(cursor) => Some(
                self.cursors
                    .borrow()
                    .find(cursor)
                    .ok_or_else(|| format!("the cursor `{cursor}` has expired: list the keys from the beginning"))?,
            ),
        };
        let page = self.list_keys(after.as_deref())?;
        Ok((page.keys, page.next.map(|next| self.cursors.borrow_mut().create(next))))
    }

    /// Adds to the decimal number in `key`. `add` gets the stored text and returns the sum.
    pub(crate) fn increment<T: ToString>(&self, key: &str, add: impl Fn(&str) -> Option<Option<T>>) -> Result<T> {
        check_key(key)?;
        self.write(|connection| {
            let old = value(connection, key).map_err(failed)?.unwrap_or_else(|| b"0".to_vec());
            let sum = std::str::from_utf8(&old)
                .ok()
                .and_then(&add)
                .ok_or_else(|| format!("the value of `{key}` is not a decimal number, so it cannot be incremented"))?;
            let sum = sum.ok_or_else(|| format!("incrementing `{key}` would overflow"))?;
            put(connection, key, sum.to_string().as_bytes())?;
            Ok(sum)
        })
    }

    pub(crate) fn compare(&self, key: String) -> Result<Cas> {
        check_key(&key)?;
        let version = self.read(|connection| version(connection, &key))?;
        Ok(Cas { key, version })
    }

    pub(crate) fn current(&self, cas: &Cas) -> Result<(Cas, Option<Vec<u8>>)> {
        let key = cas.key.clone();
        let found = self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT version, value FROM entries WHERE key = ?1")?;
            statement.query_row([&key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).optional()
        })?;
        let (version, value) = found.unzip();
        Ok((Cas { key, version }, value))
    }

    pub(crate) fn swap(&self, cas: Cas, new: &[u8]) -> Result<Swap> {
        check_value(&cas.key, new)?;
        let Cas { key, version: expected } = cas;
        self.write(|connection| {
            let version = version(connection, &key).map_err(failed)?;
            if version != expected {
                return Ok(Swap::Changed(Cas { key: key.clone(), version }));
            }
            put(connection, &key, new)?;
            Ok(Swap::Swapped)
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> std::result::Result<T, rusqlite::Error>) -> Result<T> {
        work(self.session.connection()).map_err(failed)
    }

    /// Runs `work` in a transaction. If another instance has changed the store at the same time, runs it again.
    fn write<T>(&self, work: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let lock = Lock::try_take(&self.dir)
                .map_err(|error| format!("the store failed: the store cannot be locked: {error}"))?;
            if let Some(_lock) = lock {
                match self.try_write(&work) {
                    Err(None) => {}
                    Err(Some(message)) => return Err(message),
                    Ok(done) => return Ok(done),
                }
            }
            if start.elapsed() >= WAIT_TIME {
                return Err(OVERLOADED.to_owned());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns `Err(None)` if the transaction conflicts with one of another instance.
    fn try_write<T>(&self, work: impl Fn(&Connection) -> Result<T>) -> std::result::Result<T, Option<String>> {
        let conflict = |error: Error| match error {
            Error::Overloaded => None,
            error => Some(describe(&error)),
        };
        self.session.internal("BEGIN IMMEDIATE").map_err(conflict)?;
        let result = work(self.session.connection()).map_err(Some);
        let result = result.and_then(|done| self.session.internal("COMMIT").map(|()| done).map_err(conflict));
        self.session.roll_back();
        result
    }
}

fn value(connection: &Connection, key: &str) -> std::result::Result<Option<Vec<u8>>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT value FROM entries WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

fn version(connection: &Connection, key: &str) -> std::result::Result<Option<i64>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT version FROM entries WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

fn next_version(connection: &Connection) -> Result<i64> {
    let sql = "UPDATE meta SET number = number + 1 WHERE name = 'version' RETURNING number";
    connection.prepare_cached(sql).and_then(|mut statement| statement.query_row([], |row| row.get(0))).map_err(failed)
}

fn put(connection: &Connection, key: &str, value: &[u8]) -> Result<()> {
    let version = next_version(connection)?;
    let sql = "INSERT INTO entries VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value";
    let put = connection.prepare_cached(sql).and_then(|mut statement| statement.execute((key, version, value)));
    put.map(drop).map_err(failed)
}

fn failed(error: rusqlite::Error) -> String {
    format!("the store failed: {error}")
}

fn check_key(key: &str) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("the key has {}, more than the maximum of {}", size(key.len()), size(KEY_BYTES_MAX)));
    }
    Ok(())
}

fn check_value(key: &str, value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        let (bytes, max) = (size(value.len()), size(VALUE_BYTES_MAX));
        return Err(format!("the value of `{key}` has {bytes}, more than the maximum of {max}"));
    }
    Ok(())
}

fn check_batch(keys: usize) -> Result<()> {
    if keys > BATCH_KEYS_MAX {
        return Err(format!("the batch has {keys} keys, more than the maximum of {BATCH_KEYS_MAX}: split the batch"));
    }
    Ok(())
}

fn batch_too_large() -> String {
    format!("the values of the batch exceed the maximum of {}: split the batch", size(BATCH_BYTES_MAX))
}
