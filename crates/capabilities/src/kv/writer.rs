//! The thread that writes a store: group commit.
//!
//! It takes the writes that wait, up to a bound, applies them in the order of their arrival in one transaction, commits
//! with a sync, and only then answers. A write that fails by itself (a swap that lost, a value that isn't a number)
//! leaves nothing behind and is answered with the others, since what it saw becomes durable with that same commit. If
//! the engine fails, all of the group are told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use redb::{Database, ReadableTable, Table};
use tokio::sync::oneshot;

use super::entry::{Delta, ENTRIES, META, META_VERSION, Versioned, encode, read_for_write};
use super::{KvError, KvLimits};

/// Most writes that share one commit.
const GROUP_WRITES_MAX: usize = 512;
/// No more writes join a group that has this many bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// One write. Each is applied whole or not at all.
pub(super) enum Write {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment { key: String, delta: Delta },
    Swap { key: String, expected: Option<u64>, value: Vec<u8> },
}

/// What a write gave.
pub(super) enum Written {
    Done,
    Number(i128),
    /// The entry of a swap had changed: what it is now.
    Changed(Option<Versioned>),
}

pub(super) struct Writer {
    queue: Option<SyncSender<Request>>,
    waiting_bytes: Arc<AtomicUsize>,
    waiting_bytes_max: usize,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    write: Write,
    bytes: usize,
    reply: oneshot::Sender<Result<Written, KvError>>,
}

impl Writer {
    pub(super) fn start(name: &str, database: Arc<Database>, limits: &KvLimits) -> Result<Self, KvError> {
        let (queue, requests) = sync_channel(limits.waiting_writes_max);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let released = waiting_bytes.clone();
        let thread = std::thread::Builder::new()
            .name(format!("isomer-kv-{name}"))
            .spawn(move || write_groups(&database, &requests, &released))
            .map_err(KvError::storage)?;
        Ok(Self {
            queue: Some(queue),
            waiting_bytes,
            waiting_bytes_max: limits.waiting_bytes_max,
            thread: Some(thread),
        })
    }

    pub(super) async fn write(&self, write: Write) -> Result<Written, KvError> {
        let bytes = write.bytes();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single write may be larger than the bound by itself; it then goes alone.
        if before > 0 && before + bytes > self.waiting_bytes_max {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(KvError::Overloaded);
        }
        let (reply, written) = oneshot::channel();
        let queue = self.queue.as_ref().expect("the queue is there until the writer is dropped");
        if let Err(refused) = queue.try_send(Request { write, bytes, reply }) {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match refused {
                TrySendError::Full(_) => KvError::Overloaded,
                TrySendError::Disconnected(_) => KvError::storage("its writer has stopped"),
            });
        }
        written.await.map_err(|_| KvError::storage("its writer has stopped"))?
    }
}

impl Drop for Writer {
    /// Finishes the writes that wait, then closes the file.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Set(entries) => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(String::len).sum(),
            Self::Increment { key, .. } => key.len(),
            Self::Swap { key, value, .. } => key.len() + value.len(),
        }
    }
}

fn write_groups(database: &Database, requests: &Receiver<Request>, waiting_bytes: &AtomicUsize) {
    while let Ok(first) = requests.recv() {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while group.len() < GROUP_WRITES_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = requests.try_recv() else { break };
            bytes += next.bytes;
            group.push(next);
        }
        waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        // A caller that has gone (its request was cancelled) didn't get an answer, so nothing was promised.
        group.retain(|request| !request.reply.is_closed());
        let (writes, replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|request| (request.write, request.reply)).unzip();
        match commit(database, writes) {
            Ok(results) => {
                for (reply, result) in replies.into_iter().zip(results) {
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a key-value store failed to commit");
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Apply `writes` in one transaction and sync it: a result for each, or the failure that undid all.
fn commit(database: &Database, writes: Vec<Write>) -> Result<Vec<Result<Written, KvError>>, KvError> {
    // redb's default durability is `Immediate`: `commit` returns after the sync.
    let transaction = database.begin_write().map_err(KvError::storage)?;
    let mut results = Vec::with_capacity(writes.len());
    let changed = {
        let mut entries = transaction.open_table(ENTRIES).map_err(KvError::storage)?;
        let mut meta = transaction.open_table(META).map_err(KvError::storage)?;
        let before = meta.get(META_VERSION).map_err(KvError::storage)?.map_or(0, |version| version.value());
        let mut version = before;
        for write in writes {
            match apply(&mut entries, &mut version, write) {
                Err(error @ KvError::Storage { .. }) => return Err(error),
                result => results.push(result),
            }
        }
        if version != before {
            meta.insert(META_VERSION, version).map_err(KvError::storage)?;
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

fn apply(entries: &mut Table<'_, &str, &[u8]>, version: &mut u64, write: Write) -> Result<Written, KvError> {
    let mut put = |entries: &mut Table<'_, &str, &[u8]>, key: &str, value: &[u8]| {
        *version += 1;
        entries.insert(key, encode(*version, value).as_slice()).map(|_| ()).map_err(KvError::storage)
    };
    match write {
        Write::Set(pairs) => {
            for (key, value) in pairs {
                put(entries, &key, &value)?;
            }
            Ok(Written::Done)
        }
        Write::Delete(keys) => {
            for key in keys {
                if entries.remove(key.as_str()).map_err(KvError::storage)?.is_some() {
                    *version += 1;
                }
            }
            Ok(Written::Done)
        }
        Write::Increment { key, delta } => {
            let old = read_for_write(entries, &key)?;
            let new = delta.add_to(&key, old.as_ref().map_or(b"0", |old| &old.value))?;
            put(entries, &key, new.to_string().as_bytes())?;
            Ok(Written::Number(new))
        }
        Write::Swap { key, expected, value } => {
            let current = read_for_write(entries, &key)?;
            if current.as_ref().map(|current| current.version) != expected {
                return Ok(Written::Changed(current));
            }
            put(entries, &key, &value)?;
            Ok(Written::Done)
        }
    }
}
