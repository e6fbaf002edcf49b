//! Listing the keys of a store with the sizes of their values, and reading the beginning of a value, for a person who
//! looks at the data of an app.

use std::ops::Bound::{Excluded, Included, Unbounded};

use redb::{Database, ReadableDatabase as _};

use super::entry::{ENTRIES, value_bytes, value_of};
use super::open_store::OpenStore;
use super::{KvError, KvStore};

/// The number of bytes of keys and values after which a page ends. The database reads a value to find out its size.
const READ_BYTES_MAX: usize = 32 << 20;

/// Some keys of a store, and the sizes of their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SizedKeyPage {
    /// The keys, ordered by their bytes, each with the size of its value in bytes.
    pub keys: Vec<(String, u64)>,
    /// The argument `after` of [`KvStore::browse`] for the next page; `None` if this is the last page.
    pub next: Option<String>,
}

impl KvStore {
    /// Returns keys that begin with `prefix`, in the order of their bytes. The page starts with the first key greater
    /// than `after`, and has at most `limit` keys.
    ///
    /// # Errors
    /// If `prefix` or `after` is longer than a key may be, or if the store cannot be read.
    pub async fn browse(&self, prefix: String, after: Option<String>, limit: usize) -> Result<SizedKeyPage, KvError> {
        self.check_key(&prefix)?;
        after.as_ref().map_or(Ok(()), |after| self.check_key(after))?;
        let keys_max = limit.clamp(1, self.inner().limits.page_keys_max);
        let read = move |store: &OpenStore| {
            store.read(|database| page(database, &prefix, after.as_deref(), keys_max, READ_BYTES_MAX))
        };
        self.run(read, |page| page.keys.iter().map(|(key, _)| size_of::<(String, u64)>() + key.len()).sum()).await
    }

    /// Returns the first `bytes_max` bytes of the value of `key`, and the size of the whole value in bytes; `None` if
    /// `key` does not exist.
    ///
    /// # Errors
    /// If `key` is longer than a key may be, or if the store cannot be read.
    pub async fn peek(&self, key: String, bytes_max: usize) -> Result<Option<(Vec<u8>, u64)>, KvError> {
        self.check_key(&key)?;
        let read = move |store: &OpenStore| store.read(|database| beginning(database, &key, bytes_max));
        self.run(read, |found| found.as_ref().map_or(0, |(value, _)| value.len())).await
    }
}

fn beginning(database: &Database, key: &str, bytes_max: usize) -> Result<Option<(Vec<u8>, u64)>, KvError> {
    let transaction = database.begin_read().map_err(KvError::storage)?;
    let entries = transaction.open_table(ENTRIES).map_err(KvError::storage)?;
    let Some(stored) = entries.get(key).map_err(KvError::storage)? else { return Ok(None) };
    let value = value_of(stored.value())?;
    Ok(Some((value[..value.len().min(bytes_max)].to_vec(), value.len() as u64)))
}

fn page(
    database: &Database,
    prefix: &str,
    after: Option<&str>,
    keys_max: usize,
    bytes_max: usize,
) -> Result<SizedKeyPage, KvError> {
    let transaction = database.begin_read().map_err(KvError::storage)?;
    let entries = transaction.open_table(ENTRIES).map_err(KvError::storage)?;
    let from = match after {
        Some(after) if after >= prefix => Excluded(after),
        _ => Included(prefix),
    };
    let (mut page, mut bytes) = (SizedKeyPage::default(), 0);
    for entry in entries.range::<&str>((from, Unbounded)).map_err(KvError::storage)? {
        let (key, stored) = entry.map_err(KvError::storage)?;
        let key = key.value();
        if !key.starts_with(prefix) {
            break;
        }
        if page.keys.len() >= keys_max || bytes >= bytes_max {
            page.next = page.keys.last().map(|(key, _)| key.clone());
            break;
        }
        let value = value_bytes(stored.value());
        bytes += key.len() + value;
        page.keys.push((key.to_owned(), value as u64));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Kv, KvLimits};

    #[tokio::test]
    async fn keys_are_listed_by_prefix_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        let store = Kv::new(dir.path(), KvLimits::default()).store("s").await.unwrap();
        let entry = |key: &str, bytes: usize| (key.to_owned(), vec![0; bytes]);
        let entries = vec![entry("a", 1), entry("cart/1", 10), entry("cart/2", 20), entry("cart/3", 0), entry("d", 2)];
        store.set_many(entries).await.unwrap();
        let page = |prefix: &str, after: Option<&str>, limit| {
            let store = store.clone();
            let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
            async move {
                let page = store.browse(prefix, after, limit).await.unwrap();
                (page.keys.into_iter().map(|(key, bytes)| format!("{key}={bytes}")).collect::<Vec<_>>(), page.next)
            }
        };
        let next = |key: &str| Some(key.to_owned());
        assert_eq!(page("cart/", None, 2).await, (vec!["cart/1=10".into(), "cart/2=20".into()], next("cart/2")));
        assert_eq!(page("cart/", Some("cart/2"), 2).await, (vec!["cart/3=0".into()], None));
        assert_eq!(page("", None, 3).await.1, next("cart/2"));
        assert_eq!(page("", Some("cart/3"), 3).await, (vec!["d=2".into()], None));
        assert_eq!(page("cart/", Some("a"), 9).await.0.len(), 3, "keys before the prefix are skipped");
        assert_eq!(page("cart/", Some("d"), 9).await, (vec![], None));
        let long = "a".repeat(KvLimits::default().key_bytes_max + 1);
        assert!(store.browse(long, None, 1).await.is_err());
    }

    #[tokio::test]
    async fn the_beginning_of_a_value_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Kv::new(dir.path(), KvLimits::default()).store("s").await.unwrap();
        store.set("a".to_owned(), b"hello".to_vec()).await.unwrap();
        assert_eq!(store.peek("a".to_owned(), 2).await.unwrap(), Some((b"he".to_vec(), 5)));
        assert_eq!(store.peek("a".to_owned(), 9).await.unwrap(), Some((b"hello".to_vec(), 5)));
        assert_eq!(store.peek("b".to_owned(), 9).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_page_ends_after_many_bytes_of_values() {
        let dir = tempfile::tempdir().unwrap();
        let store = Kv::new(dir.path(), KvLimits::default()).store("s").await.unwrap();
        let entries = (0..4).map(|number| (format!("{number}"), vec![0; 1000])).collect();
        store.set_many(entries).await.unwrap();
        let found = store.inner().read(|database| page(database, "", None, 100, 1500)).unwrap();
        assert_eq!((found.keys.len(), found.next), (2, Some("1".to_owned())));
    }
}
