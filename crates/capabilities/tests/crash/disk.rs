//! A record of file operations, and the contents that a disk may have if the machine stops at a point in the record.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// The number of bytes that a disk writes completely or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Write {
        file: String,
        offset: usize,
        data: Vec<u8>,
    },
    Resize {
        file: String,
        bytes: usize,
    },
    /// After this event, all earlier operations on the file are on the disk.
    Sync {
        file: String,
    },
    Delete {
        file: String,
    },
    /// The operation with this index in the workload was started.
    Started(usize),
    /// The operation with this index in the workload was acknowledged.
    Acknowledged(usize),
}

/// Records events in their order.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub(crate) fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

/// Returns the files after a crash at the end of `events`. The files contain everything that was synced. If `random` is
/// set, they also contain a random part of the other writes, some of them torn.
pub(crate) fn after_crash(events: &[Event], random: Option<&mut Random>) -> BTreeMap<String, Vec<u8>> {
    let mut synced: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut pending: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Write { file, .. } | Event::Resize { file, .. } => {
                pending.entry(file.clone()).or_default().push(event);
            }
            Event::Sync { file } => {
                let content = synced.entry(file.clone()).or_default();
                for event in pending.remove(file).unwrap_or_default() {
                    apply(content, event, usize::MAX);
                }
            }
            Event::Delete { file } => {
                synced.remove(file);
                pending.remove(file);
            }
            Event::Started(_) | Event::Acknowledged(_) => {}
        }
    }
    if let Some(random) = random {
        for (file, events) in pending {
            let content = synced.entry(file).or_default();
            for event in events {
                match random.below(3) {
                    0 => {}
                    1 => apply(content, event, usize::MAX),
                    _ => apply(content, event, random.below(9) * SECTOR_BYTES),
                }
            }
        }
    }
    synced
}

/// Applies an event to a file. Of a write, applies only the first `first_bytes` bytes.
fn apply(content: &mut Vec<u8>, event: &Event, first_bytes: usize) {
    match event {
        Event::Write { offset, data, .. } => {
            let data = &data[..data.len().min(first_bytes)];
            if content.len() < offset + data.len() {
                content.resize(offset + data.len(), 0);
            }
            content[*offset..offset + data.len()].copy_from_slice(data);
        }
        Event::Resize { bytes, .. } => content.resize(*bytes, 0),
        _ => {}
    }
}

/// A small random number generator (SplitMix64), which returns the same sequence for the same seed on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number from 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}
