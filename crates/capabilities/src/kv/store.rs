//! A handle of a key-value store, with the operations that the host functions call.

use std::sync::Arc;

use super::entry::{self, Delta, KeyPage, Versioned};
use super::open_store::OpenStore;
use super::write_queue::{Write, WriteOutcome};
use super::{Kv, KvError, writer};
use crate::pool::locked;
use crate::store_handle::StoreHandle;

/// A handle of a key-value store. Clones refer to the same store. After the last one is dropped, a thread of the pool
/// closes the store.
#[derive(Clone)]
pub struct KvStore(StoreHandle<OpenStore, Kv>);

/// The version of a key that was read, for compare-and-swap. Does not contain the value, so its size does not depend on
/// the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cas {
    key: String,
    /// The version of the entry; `None` if the key did not exist.
    version: Option<u64>,
}

impl Cas {
    /// Returns the key whose version was read.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The result of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The value was set, and the change was synced.
    Swapped,
    /// The value was not set, because the key was changed after it had been read. Contains the current version.
    Changed(Cas),
}

impl KvStore {
    pub(super) fn new(inner: Arc<OpenStore>) -> Self {
        Self(StoreHandle::serving(inner))
    }

    /// Returns a handle for a candidate revision. `stores` contains the candidate's own stores.
    pub(super) fn for_candidate(self, stores: Kv) -> Self {
        Self(StoreHandle::candidate(self.inner().clone(), stores))
    }

    pub(super) fn inner(&self) -> &Arc<OpenStore> {
        self.0.store()
    }

    /// Returns the store's name.
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Returns the value of `key`; `None` if `key` does not exist.
    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.read(key).await?.1.map(|found| found.value))
    }

    /// Returns whether `key` exists.
    pub async fn exists(&self, key: String) -> Result<bool, KvError> {
        self.check_key(&key)?;
        self.run(move |store| store.read(|database| entry::exists(database, &key)), |_| 0).await
    }

    /// Sets the value of `key`. Returns after the change has been synced.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<(), KvError> {
        self.set_many(vec![(key, value)]).await
    }

    /// Removes `key` if it exists. Returns after the change has been synced.
    pub async fn delete(&self, key: String) -> Result<(), KvError> {
        self.delete_many(vec![key]).await
    }

    /// Returns a page of the store's keys, in the order of their bytes. The page starts with the first key greater than
    /// `after`.
    pub async fn list_keys(&self, after: Option<String>) -> Result<KeyPage, KvError> {
        if let Some(after) = &after {
            self.check_key(after)?;
        }
        let read =
            move |store: &OpenStore| store.read(|database| entry::list_keys(database, after.as_deref(), &store.limits));
        self.run(read, |page| page.keys.iter().map(|key| size_of_val(key) + key.len()).sum()).await
    }

    /// Lists keys like [`KvStore::list_keys`], for an interface with numeric cursors. A cursor refers to the last
    /// listed key, so deleting keys during a listing does not skip other keys. A cursor is valid in this process, until
    /// 4,096 newer ones have been created.
    pub async fn list_keys_numbered(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), KvError> {
        let after = match cursor {
            None => None,
            Some(cursor) => Some(locked(&self.inner().cursors).find(cursor).ok_or(KvError::CursorExpired { cursor })?),
        };
        let page = self.list_keys(after).await?;
        let next = page.next.map(|next| locked(&self.inner().cursors).create(next));
        Ok((page.keys, next))
    }

    /// Returns the values of `keys`, in the same order. All values belong to the same state of the store.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, KvError> {
        self.check_batch(keys.len())?;
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let read = move |store: &OpenStore| store.read(|database| entry::get_many(database, &keys, &store.limits));
        self.run(read, |values| {
            values.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, Vec::len)).sum()
        })
        .await
    }

    /// Sets all of `entries`, or none. Returns after the changes have been synced.
    pub async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), KvError> {
        self.check_batch(entries.len())?;
        let limits = &self.inner().limits;
        let mut bytes = 0;
        for (key, value) in &entries {
            self.check_key(key)?;
            self.check_value(key, value)?;
            bytes += key.len() + value.len();
        }
        if entries.len() > 1 && bytes > limits.batch_bytes_max {
            return Err(KvError::BatchTooLarge { bytes_max: limits.batch_bytes_max });
        }
        writer::write(&self.0.for_writing().await?, Write::Set(entries)).await.map(|_| ())
    }

    /// Removes all of `keys`, or none. Returns after the changes have been synced.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), KvError> {
        self.check_batch(keys.len())?;
        keys.iter().try_for_each(|key| self.check_key(key))?;
        writer::write(&self.0.for_writing().await?, Write::Delete(keys)).await.map(|_| ())
    }

    /// Adds `delta` to the decimal number in `key` (0 if `key` does not exist) in one atomic step. Returns the sum
    /// after the change has been synced.
    pub async fn increment(&self, key: String, delta: Delta) -> Result<i128, KvError> {
        self.check_key(&key)?;
        match writer::write(&self.0.for_writing().await?, Write::Increment { key, delta }).await? {
            WriteOutcome::Number(sum) => Ok(sum),
            WriteOutcome::Done | WriteOutcome::Changed(_) => Err(KvError::storage("an increment returned no number")),
        }
    }

    /// Reads the version of `key`, for a later [`KvStore::swap`].
    pub async fn compare(&self, key: String) -> Result<Cas, KvError> {
        self.check_key(&key)?;
        let read = move |store: &OpenStore| {
            store.read(|database| entry::version(database, &key)).map(|version| Cas { key, version })
        };
        self.run(read, |_| 0).await
    }

    /// Reads the key of `cas` again. Returns its current version and value.
    pub async fn current(&self, cas: &Cas) -> Result<(Cas, Option<Vec<u8>>), KvError> {
        let (key, found) = self.read(cas.key.clone()).await?;
        let (version, value) = found.map(|found| (found.version, found.value)).unzip();
        Ok((Cas { key, version }, value))
    }

    /// Sets the value of the key of `cas`, if the key was not changed after its version had been read. The comparison
    /// and the change are one atomic step. Returns after the change has been synced.
    pub async fn swap(&self, cas: Cas, value: Vec<u8>) -> Result<Swap, KvError> {
        let Cas { key, version } = cas;
        self.check_value(&key, &value)?;
        let swap = Write::Swap { key: key.clone(), expected: version, value };
        match writer::write(&self.0.for_writing().await?, swap).await? {
            WriteOutcome::Changed(version) => Ok(Swap::Changed(Cas { key, version })),
            WriteOutcome::Done | WriteOutcome::Number(_) => Ok(Swap::Swapped),
        }
    }

    async fn read(&self, key: String) -> Result<(String, Option<Versioned>), KvError> {
        self.check_key(&key)?;
        let read = move |store: &OpenStore| store.read(|database| entry::get(database, &key)).map(|found| (key, found));
        self.run(read, |(_, found)| found.as_ref().map_or(0, |found| found.value.len())).await
    }

    /// Runs `read` as a job in the tenant's job queue. `bytes` returns the size of the result. While the result waits
    /// for the caller, this size is charged to the tenant.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&OpenStore) -> Result<T, KvError> + Send + 'static,
        bytes: impl FnOnce(&T) -> usize + Send + 'static,
    ) -> Result<T, KvError> {
        let store = self.0.for_reading();
        let job = move || {
            let found = read(&store)?;
            let charge = store.job_queue.account().charge_host_memory(bytes(&found))?;
            Ok::<_, KvError>((found, charge))
        };
        let (found, _charge) = self.inner().job_queue.run(job).await??;
        Ok(found)
    }

    pub(super) fn check_key(&self, key: &str) -> Result<(), KvError> {
        let bytes_max = self.inner().limits.key_bytes_max;
        if key.len() > bytes_max { Err(KvError::KeyTooLong { bytes: key.len(), bytes_max }) } else { Ok(()) }
    }

    fn check_value(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        let bytes_max = self.inner().limits.value_bytes_max;
        if value.len() > bytes_max {
            return Err(KvError::ValueTooLong { key: key.to_owned(), bytes: value.len(), bytes_max });
        }
        Ok(())
    }

    fn check_batch(&self, keys: usize) -> Result<(), KvError> {
        let keys_max = self.inner().limits.batch_keys_max;
        if keys > keys_max { Err(KvError::BatchTooLong { keys, keys_max }) } else { Ok(()) }
    }
}
