//! Writing to a store with group commit.
//!
//! Writes wait in the store's write queue. While the write queue is not empty, the store has one job in the tenant's
//! job queue. The job takes waiting writes, up to a limit, applies them in the order of arrival in one transaction,
//! commits with a sync, and only then sends the results. A write can fail by itself, for example a swap whose key has
//! changed, or a write that exceeds the quota. Such a write changes nothing. Its error is also sent after the commit,
//! because it may depend on earlier writes of the same group. If the database fails, all writes of the group fail.

use std::collections::VecDeque;
use std::sync::Arc;

use redb::{Database, ReadableTable, Table};
use tokio::sync::oneshot;

use super::KvError;
use super::entry::{self, ENTRIES, META, META_BYTES, META_VERSION, encode, entry_bytes};
use super::open_store::{OpenStore, StoreRoom};
use super::write_queue::{QueuedWrite, Reply, Write, WriteOutcome};
use crate::pool::locked;

/// The maximum number of writes in one commit.
const GROUP_WRITES_MAX: usize = 512;
/// The size, in bytes, at which a group accepts no more writes.
const GROUP_BYTES_MAX: usize = 16 << 20;

pub(super) async fn write(store: &Arc<OpenStore>, write: Write) -> Result<WriteOutcome, KvError> {
    let bytes = write.bytes();
    let charge = store.job_queue.account().charge_host_memory(bytes)?;
    if !store.account.begin_waiting(bytes, store.limits.waiting_bytes_max) {
        return Err(KvError::Overloaded);
    }
    let (reply, written) = oneshot::channel();
    let (is_first, number) = {
        let mut queue = locked(&store.waiting.queue);
        if queue.writes.len() >= store.limits.waiting_writes_max {
            store.account.end_waiting(bytes);
            return Err(KvError::Overloaded);
        }
        queue.last += 1;
        let number = queue.last;
        queue.writes.push_back(QueuedWrite { number, write, bytes, charge, reply });
        (!std::mem::replace(&mut queue.has_job, true), number)
    };
    let mut waited = WaitingCaller { store, number, is_over: false };
    if is_first {
        GroupWriter::start(store.clone());
    }
    let written = written.await;
    waited.is_over = true;
    written.map_err(|_| KvError::storage("the write ended without a result"))?
}

/// A caller that waits for its write. If the caller is dropped (its request was cancelled), its write is removed from
/// the queue, unless a job has already taken the write.
struct WaitingCaller<'a> {
    store: &'a OpenStore,
    number: u64,
    is_over: bool,
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let request = {
            let writes = &mut locked(&self.store.waiting.queue).writes;
            let index = writes.binary_search_by_key(&self.number, |request| request.number);
            index.ok().and_then(|index| writes.remove(index))
        };
        if let Some(request) = request {
            self.store.account.end_waiting(request.bytes);
        }
    }
}

/// The job that writes the next group of a store's waiting writes. When a job that has run is dropped, it appends a job
/// for the following group to the tenant's job queue. When a job is dropped that has not run, because no thread could
/// be started, all waiting writes fail.
struct GroupWriter {
    store: Arc<OpenStore>,
    used: bool,
}

impl GroupWriter {
    /// Queues a job that writes the next group. The caller must not hold the lock of the queue: if no thread can be
    /// started, the writer is dropped here, and its `drop` locks the queue.
    fn start(store: Arc<OpenStore>) {
        let job_queue = store.job_queue.clone();
        let mut writer = Self { store, used: false };
        job_queue.spawn(move || {
            writer.used = true;
            let results = write_group(&writer.store);
            // Releases the store before the results are sent, because a caller may drop the last handle as soon as it
            // has its result, and then expects the file to be closed.
            drop(writer);
            for (reply, result) in results {
                let _ = reply.send(result);
            }
        });
    }
}

impl Drop for GroupWriter {
    fn drop(&mut self) {
        let abandoned = {
            let mut queue = locked(&self.store.waiting.queue);
            let abandoned = if self.used { VecDeque::new() } else { std::mem::take(&mut queue.writes) };
            queue.has_job = !queue.writes.is_empty();
            if queue.has_job {
                drop(queue);
                Self::start(self.store.clone());
                return;
            }
            abandoned
        };
        for request in abandoned {
            self.store.account.end_waiting(request.bytes);
            let _ = request.reply.send(Err(KvError::storage("no thread could be started for the write")));
        }
    }
}

/// Writes one group. Returns the channel and the result for each caller.
fn write_group(store: &OpenStore) -> Vec<(Reply, Result<WriteOutcome, KvError>)> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    {
        let mut queue = locked(&store.waiting.queue);
        while group.len() < GROUP_WRITES_MAX && bytes < GROUP_BYTES_MAX {
            let Some(next) = queue.writes.pop_front() else { break };
            bytes += next.bytes;
            group.push(next);
        }
    }
    store.account.end_waiting(bytes);
    // Skips the writes of callers that no longer wait because their requests were cancelled.
    group.retain(|request| !request.reply.is_closed());
    if group.is_empty() {
        return Vec::new();
    }
    let (mut writes, mut replies, mut charges) = (Vec::new(), Vec::new(), Vec::new());
    for QueuedWrite { write, reply, charge, .. } in group {
        writes.push(write);
        replies.push(reply);
        charges.push(charge);
    }
    let wanted = writes.iter().map(|write| write.adds() as u64).sum();
    let (room, claim) = store.room(wanted).unzip();
    let committed = store.database().write(|database| commit(database, writes, room));
    store.measure();
    drop((charges, claim));
    match committed {
        Ok(results) => {
            for _ in results.iter().filter(|result| matches!(result, Err(KvError::Quota { .. }))) {
                store.account.refuse();
            }
            replies.into_iter().zip(results).collect()
        }
        Err(error) => {
            tracing::error!(store = store.name, %error, "a key-value store failed to commit");
            replies.into_iter().map(|reply| (reply, Err(error.clone()))).collect()
        }
    }
}

/// Applies `writes` in one transaction, and syncs. Returns the result of each write, or the error that rolled back all
/// of them.
fn commit(
    database: &Database,
    writes: Vec<Write>,
    room: Option<StoreRoom>,
) -> Result<Vec<Result<WriteOutcome, KvError>>, KvError> {
    // redb's default durability is `Immediate`: `commit` returns after the sync.
    let transaction = database.begin_write().map_err(KvError::storage)?;
    let mut results = Vec::with_capacity(writes.len());
    let changed = {
        let entries = transaction.open_table(ENTRIES).map_err(KvError::storage)?;
        let mut meta = transaction.open_table(META).map_err(KvError::storage)?;
        let number = |key| -> Result<Option<u64>, KvError> {
            Ok(meta.get(key).map_err(KvError::storage)?.map(|number| number.value()))
        };
        let before = number(META_VERSION)?.unwrap_or(0);
        let bytes = match number(META_BYTES)? {
            Some(bytes) => bytes,
            // Stores of earlier Isomer versions do not record the size, so it is computed once.
            None => entry::count_bytes(&entries)?,
        };
        let mut change = Change { entries, version: before, bytes, added: 0 };
        for write in writes {
            let adds = write.adds() as u64;
            if let Some(room) = &room
                && !room.fits(&change, adds)
            {
                results.push(Err(room.full.clone()));
                continue;
            }
            change.added += adds;
            match change.apply(write) {
                Err(error @ KvError::Storage { .. }) => return Err(error),
                result => results.push(result),
            }
        }
        let Change { version, bytes, .. } = change;
        if version != before {
            meta.insert(META_VERSION, version).map_err(KvError::storage)?;
            meta.insert(META_BYTES, bytes).map_err(KvError::storage)?;
        }
        version != before
    };
    if changed {
        transaction.commit().map_err(KvError::storage)?;
    } else {
        transaction.abort().map_err(KvError::storage)?;
    }
    Ok(results)
}

impl StoreRoom {
    /// Returns whether a write that adds `adds` bytes may be applied. If at most half of the file is used after the
    /// write, the bytes fit into the existing file, which is already charged to the tenant.
    fn fits(&self, change: &Change<'_>, adds: u64) -> bool {
        adds == 0 || change.added + adds <= self.left || 2 * (change.bytes + adds) <= self.file
    }
}

/// A write transaction, with the changes that it has made so far.
struct Change<'a> {
    entries: Table<'a, &'static str, &'static [u8]>,
    version: u64,
    /// The size of all entries, in bytes.
    bytes: u64,
    /// An upper bound on the number of bytes that the writes of this transaction have added so far.
    added: u64,
}

impl Change<'_> {
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), KvError> {
        self.version += 1;
        let old = self.entries.insert(key, encode(self.version, value).as_slice()).map_err(KvError::storage)?;
        let old = old.map_or(0, |old| entry_bytes(key, entry::value_bytes(old.value())));
        self.bytes = (self.bytes + entry_bytes(key, value.len()) as u64).saturating_sub(old as u64);
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), KvError> {
        if let Some(old) = self.entries.remove(key).map_err(KvError::storage)? {
            self.version += 1;
            self.bytes = self.bytes.saturating_sub(entry_bytes(key, entry::value_bytes(old.value())) as u64);
        }
        Ok(())
    }

    fn apply(&mut self, write: Write) -> Result<WriteOutcome, KvError> {
        match write {
            Write::Set(pairs) => {
                for (key, value) in pairs {
                    self.put(&key, &value)?;
                }
                Ok(WriteOutcome::Done)
            }
            Write::Delete(keys) => {
                for key in keys {
                    self.remove(&key)?;
                }
                Ok(WriteOutcome::Done)
            }
            Write::Increment { key, delta } => {
                let old = entry::read_for_write(&self.entries, &key)?;
                let new = delta.add_to(&key, old.as_ref().map_or(b"0", |old| &old.value))?;
                self.put(&key, new.to_string().as_bytes())?;
                Ok(WriteOutcome::Number(new))
            }
            Write::Swap { key, expected, value } => {
                let current = entry::version_for_write(&self.entries, &key)?;
                if current != expected {
                    return Ok(WriteOutcome::Changed(current));
                }
                self.put(&key, &value)?;
                Ok(WriteOutcome::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isomer_runtime::Account;

    use super::super::{KvEngine, KvLimits};
    use crate::pool::{Pool, PoolSize};
    use crate::threads::FailingThreads;

    use super::*;

    #[tokio::test]
    async fn writes_without_a_thread_fail_and_later_ones_succeed() {
        let (dir, threads) = (tempfile::tempdir().unwrap(), Arc::new(FailingThreads::default()));
        let size = PoolSize { threads_max: 2, reserve_max: 0 };
        let pool = Pool::with_threads("test", size, threads.clone(), Duration::ZERO);
        let engine = KvEngine::on(pool.clone(), KvLimits::default());
        let account = Arc::new(crate::StorageAccount::unlimited());
        let store = engine.stores(dir.path(), account.clone(), &Account::unlimited()).store("main").await.unwrap();
        store.set("a".to_owned(), b"1".to_vec()).await.unwrap();
        threads.fail(true);
        for _ in 0..3 {
            pool.wait_without_threads();
            let refused = store.set("a".to_owned(), b"2".to_vec()).await;
            assert!(matches!(refused, Err(KvError::Storage { .. })), "{refused:?}");
            assert!(store.get("a".to_owned()).await.is_err());
        }
        assert!(account.begin_waiting(1, 1), "the refused write no longer counts as waiting");
        threads.fail(false);
        store.set("b".to_owned(), b"3".to_vec()).await.unwrap();
        assert_eq!(store.get("a".to_owned()).await.unwrap(), Some(b"1".to_vec()));
        // Drops the last handle while no thread can be started. The file must be closed nevertheless.
        pool.wait_without_threads();
        threads.fail(true);
        drop(store);
        threads.fail(false);
        let store = engine.stores(dir.path(), account, &Account::unlimited()).store("main").await.unwrap();
        assert_eq!(store.get("b".to_owned()).await.unwrap(), Some(b"3".to_vec()));
    }

    #[tokio::test]
    async fn room_of_a_store_is_claimed_from_its_tenant() {
        let dir = tempfile::tempdir().unwrap();
        let account = Arc::new(crate::StorageAccount::new(64 << 20));
        let stores = KvEngine::new(KvLimits::default()).stores(dir.path(), account.clone(), &Account::unlimited());
        let (one, other) = (stores.store("one").await.unwrap(), stores.store("other").await.unwrap());
        for store in [&one, &other] {
            store.set("a".to_owned(), b"1".to_vec()).await.unwrap();
            // This call measures the store's file. From now on, `account.room()` does not include the size of this
            // file.
            drop(store.inner().room(0).unwrap());
        }
        let left = account.room();
        let (room, claim) = one.inner().room(left - 1000).unwrap();
        assert_eq!((room.left, account.room()), (left - 1000, 1000));
        let (rest, rest_claimed) = other.inner().room(left).unwrap();
        assert_eq!((rest.left, account.room()), (1000, 0));
        drop((claim, rest_claimed));
        assert_eq!(account.room(), left);
    }
}
