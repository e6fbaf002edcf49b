//! The writes of a store that wait for their group's commit.

use std::collections::VecDeque;
use std::sync::Mutex;

use isomer_runtime::HostMemory;
use tokio::sync::oneshot;

use super::KvError;
use super::entry::{Delta, ENTRY_OVERHEAD_BYTES, entry_bytes};

/// One write. Each is applied whole or not at all.
pub(super) enum Write {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment { key: String, delta: Delta },
    Swap { key: String, expected: Option<u64>, value: Vec<u8> },
}

/// What a write gave.
pub(super) enum WriteOutcome {
    Done,
    Number(i128),
    /// The entry of a swap had changed: its version now.
    Changed(Option<u64>),
}

/// The writes of a store that wait.
#[derive(Default)]
pub(super) struct WriteQueue {
    pub(super) queue: Mutex<QueueState>,
}

#[derive(Default)]
pub(super) struct QueueState {
    pub(super) writes: VecDeque<QueuedWrite>,
    pub(super) last: u64,
    /// Is a job on its way that takes them?
    pub(super) taken: bool,
}

pub(super) struct QueuedWrite {
    /// In the order in which they came.
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

    /// Bytes that it may add to the store.
    pub(super) fn adds(&self) -> usize {
        match self {
            Self::Set(entries) => entries.iter().map(|(key, value)| entry_bytes(key, value.len())).sum(),
            Self::Delete(_) => 0,
            Self::Increment { key, .. } => entry_bytes(key, ENTRY_OVERHEAD_BYTES),
            Self::Swap { key, value, .. } => entry_bytes(key, value.len()),
        }
    }
}
