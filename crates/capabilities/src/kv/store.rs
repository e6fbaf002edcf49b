//! One key-value store: the operations that the host bindings call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use redb::Database;

use super::entry::{self, Delta, KeyPage, Versioned};
use super::writer::{Write, Writer, Written};
use super::{KvError, KvLimits};
use crate::workers::{Workers, locked};

/// Numeric cursors that a store remembers.
const CURSORS_MAX: usize = 4096;

/// A store. Clones are handles of the same one; the last to be dropped closes it.
#[derive(Clone)]
pub struct KvStore {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    limits: Arc<KvLimits>,
    readers: Arc<Workers<()>>,
    cursors: Mutex<Cursors>,
    // The writer ends before the last handle of the database goes.
    writer: Writer,
    database: Arc<Database>,
}

/// What a key held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cas {
    key: String,
    found: Option<Versioned>,
}

impl Cas {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value that the key had.
    pub fn value(&self) -> Option<&[u8]> {
        self.found.as_ref().map(|found| found.value.as_slice())
    }
}

/// How a compare-and-swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The value was set, and synced.
    Swapped,
    /// The key had been changed since it was read. Nothing was set; this is what it holds now.
    Changed(Cas),
}

/// Numeric cursors stand for keys, in the order in which they were given.
#[derive(Default)]
struct Cursors {
    given: VecDeque<(u64, String)>,
    last: u64,
}

impl KvStore {
    pub(super) fn start(
        name: &str,
        database: Database,
        limits: Arc<KvLimits>,
        readers: Arc<Workers<()>>,
    ) -> Result<Self, KvError> {
        let database = Arc::new(database);
        let writer = Writer::start(name, database.clone(), &limits)?;
        let inner = Inner { name: name.to_owned(), limits, readers, cursors: Mutex::default(), writer, database };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The value of `key`.
    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.read(key).await?.1.map(|found| found.value))
    }

    /// Does `key` have a value?
    pub async fn exists(&self, key: String) -> Result<bool, KvError> {
        self.check_key(&key)?;
        let database = self.inner.database.clone();
        self.inner.readers.run(move |()| entry::exists(&database, &key)).await?
    }

    /// Set the value of `key`. It has been synced on return.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<(), KvError> {
        self.set_many(vec![(key, value)]).await
    }

    /// Remove `key`; nothing happens where it isn't there.
    pub async fn delete(&self, key: String) -> Result<(), KvError> {
        self.delete_many(vec![key]).await
    }

    /// A page of keys in order, beginning behind `after`.
    pub async fn list_keys(&self, after: Option<String>) -> Result<KeyPage, KvError> {
        if let Some(after) = &after {
            self.check_key(after)?;
        }
        let (database, limits) = (self.inner.database.clone(), self.inner.limits.clone());
        self.inner.readers.run(move |()| entry::list_keys(&database, after.as_deref(), &limits)).await?
    }

    /// As [`KvStore::list_keys`], for an interface whose cursors are numbers. A cursor stands for a key, so deleting
    /// while listing skips nothing; it holds in this process, until 4,096 more have been given.
    pub async fn list_keys_numbered(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), KvError> {
        let after = match cursor {
            None => None,
            Some(cursor) => Some(locked(&self.inner.cursors).find(cursor).ok_or(KvError::CursorExpired { cursor })?),
        };
        let page = self.list_keys(after).await?;
        let next = page.next.map(|next| locked(&self.inner.cursors).give(next));
        Ok((page.keys, next))
    }

    /// The values of `keys` out of one state of the store, in the order of `keys`.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        self.check_batch(keys.len())?;
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let (database, limits) = (self.inner.database.clone(), self.inner.limits.clone());
        self.inner.readers.run(move |()| entry::get_many(&database, &keys, &limits)).await?
    }

    /// Set all of `entries`, or none. They have been synced on return.
    pub async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), KvError> {
        self.check_batch(entries.len())?;
        let limits = &self.inner.limits;
        let mut bytes = 0;
        for (key, value) in &entries {
            self.check_key(key)?;
            self.check_value(key, value)?;
            bytes += key.len() + value.len();
        }
        if entries.len() > 1 && bytes > limits.batch_bytes_max {
            return Err(KvError::BatchTooLarge { bytes_max: limits.batch_bytes_max });
        }
        self.inner.writer.write(Write::Set(entries)).await.map(|_| ())
    }

    /// Remove all of `keys`, or none.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), KvError> {
        self.check_batch(keys.len())?;
        keys.iter().try_for_each(|key| self.check_key(key))?;
        self.inner.writer.write(Write::Delete(keys)).await.map(|_| ())
    }

    /// Add to the decimal number that `key` holds (0 where it isn't there); the sum. Atomic and synced.
    pub async fn increment(&self, key: String, delta: Delta) -> Result<i128, KvError> {
        self.check_key(&key)?;
        match self.inner.writer.write(Write::Increment { key, delta }).await? {
            Written::Number(sum) => Ok(sum),
            Written::Done | Written::Changed(_) => Err(KvError::storage("an increment gave no number")),
        }
    }

    /// Read `key` for a [`KvStore::swap`].
    pub async fn compare(&self, key: String) -> Result<Cas, KvError> {
        let (key, found) = self.read(key).await?;
        Ok(Cas { key, found })
    }

    /// Set the value of the key of `cas` if nobody has changed it since it was read. Atomic and synced.
    pub async fn swap(&self, cas: Cas, value: Vec<u8>) -> Result<Swap, KvError> {
        let Cas { key, found } = cas;
        self.check_value(&key, &value)?;
        let expected = found.map(|found| found.version);
        match self.inner.writer.write(Write::Swap { key: key.clone(), expected, value }).await? {
            Written::Changed(found) => Ok(Swap::Changed(Cas { key, found })),
            Written::Done | Written::Number(_) => Ok(Swap::Swapped),
        }
    }

    async fn read(&self, key: String) -> Result<(String, Option<Versioned>), KvError> {
        self.check_key(&key)?;
        let database = self.inner.database.clone();
        self.inner.readers.run(move |()| entry::get(&database, &key).map(|found| (key, found))).await?
    }

    fn check_key(&self, key: &str) -> Result<(), KvError> {
        let bytes_max = self.inner.limits.key_bytes_max;
        if key.len() > bytes_max { Err(KvError::KeyTooLong { bytes: key.len(), bytes_max }) } else { Ok(()) }
    }

    fn check_value(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        let bytes_max = self.inner.limits.value_bytes_max;
        if value.len() > bytes_max {
            return Err(KvError::ValueTooLong { key: key.to_owned(), bytes: value.len(), bytes_max });
        }
        Ok(())
    }

    fn check_batch(&self, keys: usize) -> Result<(), KvError> {
        let keys_max = self.inner.limits.batch_keys_max;
        if keys > keys_max { Err(KvError::BatchTooLong { keys, keys_max }) } else { Ok(()) }
    }
}

impl Cursors {
    fn give(&mut self, key: String) -> u64 {
        if self.given.len() >= CURSORS_MAX {
            self.given.pop_front();
        }
        self.last += 1;
        self.given.push_back((self.last, key));
        self.last
    }

    fn find(&self, cursor: u64) -> Option<String> {
        let at = self.given.binary_search_by_key(&cursor, |(given, _)| *given).ok()?;
        Some(self.given[at].1.clone())
    }
}
