//! The queue of writes that wait for the next group commit of a store.

use std::collections::VecDeque;
use std::sync::Mutex;

use isomer_runtime::HostMemory;
use tokio::sync::oneshot;

use super::KvError;
use super::entry::{Delta, ENTRY_OVERHEAD_BYTES, entry_bytes};

/// One write to a store, which is applied completely or not at all.
pub(super) enum Write {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment { key: String, delta: Delta },
    Swap { key: String, expected: Option<u64>, value: Vec<u8> },
}

/// The result of a write.
pub(super) enum WriteOutcome {
    Done,
    Number(i128),
    /// A swap found a newer version of the entry and changed nothing. Contains the current version; `None` if the entry
    /// does not exist.
    Changed(Option<u64>),
}

/// The waiting writes of a store.
#[derive(Default)]
pub(super) struct WriteQueue {
    pub(super) queue: Mutex<QueueState>,
}

#[derive(Default)]
pub(super) struct QueueState {
    pub(super) writes: VecDeque<QueuedWrite>,
    pub(super) last: u64,
    /// Whether a job that applies the waiting writes is queued or running.
    pub(super) has_job: bool,
}

pub(super) struct QueuedWrite {
    /// The number of the write. Numbers increase in the order of arrival.
    pub(super) number: u64,
    pub(super) write: Write,
    pub(super) bytes: usize,
    pub(super) charge: HostMemory,
    pub(super) reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<WriteOutcome, KvError>>;

impl Write {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(entries) => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(String::len).sum(),
            Self::Increment { key, .. } => key.len(),
            Self::Swap { key, value, .. } => key.len() + value.len(),
        }
    }

    /// Returns the maximum number of bytes by which the write makes the store's entries grow.
    pub(super) fn adds(&self) -> usize {
        match self {
            Self::Set(entries) => entries.iter().map(|(key, value)| entry_bytes(key, value.len())).sum(),
            Self::Delete(_) => 0,
            Self::Increment { key, .. } => entry_bytes(key, ENTRY_OVERHEAD_BYTES),
            Self::Swap { key, value, .. } => entry_bytes(key, value.len()),
        }
    }
}
