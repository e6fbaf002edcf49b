//! The format of entries in a redb file, and the functions that read them.
//!
//! The table `entries` maps each key to the version of its entry (8 bytes, little-endian), followed by the stored
//! value. The table `meta` contains `format`; `version`, the number of the last change; and `bytes`, the size of all
//! entries (missing in stores of earlier Isomer versions until the store is written). Each change of an entry gives the
//! entry a new version, and no version is used twice. So comparing versions detects every change, even one that
//! restores an old value.

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::{KvError, KvLimits};

pub(super) const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const META_VERSION: &str = "version";
/// The key in `meta` under which the sum of [`entry_bytes`] over all entries is stored.
pub(super) const META_BYTES: &str = "bytes";
const META_FORMAT: &str = "format";
const FORMAT: u64 = 1;
const VERSION_BYTES: usize = 8;
/// The number of bytes that an entry occupies in addition to its key and value: its version, and its share of the
/// B-tree's nodes.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

/// One page of a listing of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPage {
    /// The keys, ordered by their bytes.
    pub keys: Vec<String>,
    /// The argument `after` of [`KvStore::list_keys`](super::KvStore::list_keys) for the next page; `None` if this is
    /// the last page.
    pub next: Option<String>,
}

/// The amount that [`KvStore::increment`](super::KvStore::increment) adds. Its type determines the range of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delta {
    /// A signed amount. The stored integer plus this amount must fit into an `i64`.
    Signed(i64),
    /// An unsigned amount. The stored integer plus this amount must fit into a `u64`.
    Unsigned(u64),
}

/// A stored value, and the version of its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Versioned {
    pub(super) version: u64,
    pub(super) value: Vec<u8>,
}

impl Delta {
    /// Adds this amount to the decimal number `text`. Returns an error if `text` is not a number, or if the sum is out
    /// of range.
    pub(super) fn add_to(self, key: &str, text: &[u8]) -> Result<i128, KvError> {
        let not_a_number = || KvError::NotANumber { key: key.to_owned() };
        let text = std::str::from_utf8(text).map_err(|_| not_a_number())?;
        let (sum, range) = match self {
            Self::Signed(delta) => {
                let old: i64 = text.parse().map_err(|_| not_a_number())?;
                (i128::from(old) + i128::from(delta), i128::from(i64::MIN)..=i128::from(i64::MAX))
            }
            Self::Unsigned(delta) => {
                let old: u64 = text.parse().map_err(|_| not_a_number())?;
                (i128::from(old) + i128::from(delta), 0..=i128::from(u64::MAX))
            }
        };
        if range.contains(&sum) { Ok(sum) } else { Err(KvError::Overflow { key: key.to_owned() }) }
    }
}

/// Creates the tables of a new file. Returns an error if an existing file has a format other than [`FORMAT`].
pub(super) fn prepare(database: &Database) -> Result<(), KvError> {
    let transaction = database.begin_write().map_err(KvError::storage)?;
    let format = {
        transaction.open_table(ENTRIES).map_err(KvError::storage)?;
        let mut meta = transaction.open_table(META).map_err(KvError::storage)?;
        let format = meta.get(META_FORMAT).map_err(KvError::storage)?.map(|found| found.value());
        if format.is_none() {
            meta.insert(META_FORMAT, FORMAT).map_err(KvError::storage)?;
        }
        format
    };
    match format {
        Some(FORMAT) => transaction.abort().map_err(KvError::storage)?,
        None => transaction.commit().map_err(KvError::storage)?,
        Some(other) => {
            return Err(KvError::storage(format!(
                "the file has format {other}; this version of Isomer reads format {FORMAT}"
            )));
        }
    }
    Ok(())
}

/// Returns the approximate number of bytes that an entry occupies in the file.
pub(super) fn entry_bytes(key: &str, value_bytes: usize) -> usize {
    key.len() + value_bytes + ENTRY_OVERHEAD_BYTES
}

/// Returns the size of the value in a stored entry, in bytes.
pub(super) fn value_bytes(stored: &[u8]) -> usize {
    stored.len().saturating_sub(VERSION_BYTES)
}

/// Returns the sum of [`entry_bytes`] over all entries of the table.
pub(super) fn count_bytes(table: &Table<'_, &'static str, &'static [u8]>) -> Result<u64, KvError> {
    let mut bytes = 0;
    for entry in table.iter().map_err(KvError::storage)? {
        let (key, stored) = entry.map_err(KvError::storage)?;
        bytes += entry_bytes(key.value(), value_bytes(stored.value())) as u64;
    }
    Ok(bytes)
}

pub(super) fn encode(version: u64, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(VERSION_BYTES + value.len());
    stored.extend_from_slice(&version.to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

/// Returns the value in a stored entry.
pub(super) fn value_of(stored: &[u8]) -> Result<&[u8], KvError> {
    Ok(split(stored)?.1)
}

fn split(stored: &[u8]) -> Result<(u64, &[u8]), KvError> {
    let (version, value) =
        stored.split_first_chunk::<VERSION_BYTES>().ok_or_else(|| KvError::storage("an entry has no version"))?;
    Ok((u64::from_le_bytes(*version), value))
}

/// Reads the entry of `key` in a write transaction, including the transaction's own changes.
pub(super) fn read_for_write(table: &Table<'_, &str, &[u8]>, key: &str) -> Result<Option<Versioned>, KvError> {
    table.get(key).map_err(KvError::storage)?.map(|stored| own(stored.value())).transpose()
}

fn own(stored: &[u8]) -> Result<Versioned, KvError> {
    split(stored).map(|(version, value)| Versioned { version, value: value.to_vec() })
}

fn begin(database: &Database) -> Result<ReadTransaction, KvError> {
    database.begin_read().map_err(KvError::storage)
}

/// Returns the version of the entry of `key`; `None` if `key` does not exist.
pub(super) fn version(database: &Database, key: &str) -> Result<Option<u64>, KvError> {
    let entries = begin(database)?.open_table(ENTRIES).map_err(KvError::storage)?;
    entries.get(key).map_err(KvError::storage)?.map(|stored| Ok(split(stored.value())?.0)).transpose()
}

/// Returns the version of the entry of `key` in a write transaction; `None` if `key` does not exist.
pub(super) fn version_for_write(table: &Table<'_, &str, &[u8]>, key: &str) -> Result<Option<u64>, KvError> {
    table.get(key).map_err(KvError::storage)?.map(|stored| Ok(split(stored.value())?.0)).transpose()
}

/// Returns the recorded size of all entries; `None` in a store of an earlier Isomer version.
pub(super) fn known_bytes(database: &Database) -> Result<Option<u64>, KvError> {
    let meta = begin(database)?.open_table(META).map_err(KvError::storage)?;
    Ok(meta.get(META_BYTES).map_err(KvError::storage)?.map(|bytes| bytes.value()))
}

pub(super) fn get(database: &Database, key: &str) -> Result<Option<Versioned>, KvError> {
    let entries = begin(database)?.open_table(ENTRIES).map_err(KvError::storage)?;
    entries.get(key).map_err(KvError::storage)?.map(|stored| own(stored.value())).transpose()
}

pub(super) fn exists(database: &Database, key: &str) -> Result<bool, KvError> {
    let entries = begin(database)?.open_table(ENTRIES).map_err(KvError::storage)?;
    Ok(entries.get(key).map_err(KvError::storage)?.is_some())
}

/// Reads the values of `keys` in one read transaction, so that they belong to the same state of the store.
pub(super) fn get_many(
    database: &Database,
    keys: &[String],
    limits: &KvLimits,
) -> Result<Vec<Option<Vec<u8>>>, KvError> {
    let entries = begin(database)?.open_table(ENTRIES).map_err(KvError::storage)?;
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for key in keys {
        let found = entries.get(key.as_str()).map_err(KvError::storage)?;
        let value = found.map(|stored| split(stored.value()).map(|(_, value)| value.to_vec())).transpose()?;
        bytes += value.as_ref().map_or(0, Vec::len);
        if bytes > limits.batch_bytes_max {
            return Err(KvError::BatchTooLarge { bytes_max: limits.batch_bytes_max });
        }
        values.push(value);
    }
    Ok(values)
}

pub(super) fn list_keys(database: &Database, after: Option<&str>, limits: &KvLimits) -> Result<KeyPage, KvError> {
    use std::ops::Bound::{Excluded, Unbounded};
    let entries = begin(database)?.open_table(ENTRIES).map_err(KvError::storage)?;
    let from = after.map_or(Unbounded, Excluded);
    let mut page = KeyPage::default();
    let mut bytes = 0;
    for entry in entries.range::<&str>((from, Unbounded)).map_err(KvError::storage)? {
        let (key, _) = entry.map_err(KvError::storage)?;
        let key = key.value();
        let full = page.keys.len() >= limits.page_keys_max || bytes + key.len() > limits.page_bytes_max;
        if full && !page.keys.is_empty() {
            page.next = page.keys.last().cloned();
            break;
        }
        bytes += key.len();
        page.keys.push(key.to_owned());
    }
    Ok(page)
}
