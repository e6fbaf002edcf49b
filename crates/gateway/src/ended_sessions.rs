//! The sessions that have ended, so that a copied token of such a session stops to work.
//!
//! An ended session is remembered until its tokens have expired, also after a restart. The set has a maximum size: if
//! more sessions end within this time, the oldest eighth is forgotten.

use std::collections::HashMap;
use std::fmt;

use crate::session::{Identity, RENEWABLE_SECONDS_MAX, UnixSeconds};

/// The maximum number of ended sessions of an app that are remembered. A hash table of this size has 65,536 buckets.
pub const ENDED_MAX: usize = 7 << 13;

/// The size of the record of an ended session in bytes: its identity, and the time at which it has ended.
pub const ENDED_RECORD_BYTES: usize = size_of::<Identity>() + size_of::<u32>();

/// Stores records of ended sessions. The functions return at once.
pub trait EndedStore: Send + Sync {
    /// Adds a record.
    fn add(&self, record: &[u8; ENDED_RECORD_BYTES]);

    /// Replaces all records.
    fn replace(&self, records: Vec<u8>);
}

/// The ended sessions, with the times at which they have ended.
#[derive(Default)]
pub(crate) struct EndedSessions {
    known: HashMap<Identity, u32>,
    store: Option<Box<dyn EndedStore>>,
}

impl EndedSessions {
    /// Restores the sessions from stored records. Later ones are added to `store`.
    pub(crate) fn restored(records: &[u8], now: UnixSeconds, store: Box<dyn EndedStore>) -> Self {
        let (records, _) = records.as_chunks::<ENDED_RECORD_BYTES>();
        let known = records.iter().map(parsed).filter(|(_, at)| !has_expired(*at, now)).collect::<HashMap<_, _>>();
        let mut ended = Self { known, store: Some(store) };
        if ended.known.len() > ENDED_MAX {
            ended.forget_oldest(now);
        } else if ended.known.len() < records.len() {
            ended.store_all();
        }
        ended
    }

    /// Adds a session that ends now.
    pub(crate) fn add(&mut self, identity: Identity, now: UnixSeconds) {
        if self.known.contains_key(&identity) {
            return;
        }
        let at = u32::try_from(now).unwrap_or(u32::MAX);
        if self.known.len() >= ENDED_MAX {
            self.forget_oldest(now);
        }
        self.known.insert(identity, at);
        if let Some(store) = &self.store {
            store.add(&record(identity, at));
        }
    }

    /// Returns whether a session has ended.
    pub(crate) fn contains(&self, identity: &Identity) -> bool {
        self.known.contains_key(identity)
    }

    /// Forgets the sessions whose tokens have expired. If an eighth of the set does not become free, forgets the oldest
    /// ones.
    fn forget_oldest(&mut self, now: UnixSeconds) {
        self.known.retain(|_, at| !has_expired(*at, now));
        let kept = ENDED_MAX - ENDED_MAX / 8;
        if let Some(surplus) = self.known.len().checked_sub(kept + 1) {
            let mut times: Vec<_> = self.known.values().copied().collect();
            let (_, last, _) = times.select_nth_unstable(surplus);
            // Sessions that ended in the same second are forgotten only as far as necessary.
            let (last, mut left) = (*last, surplus + 1);
            left -= self.known.values().filter(|at| **at < last).count();
            self.known.retain(|_, at| {
                let is_surplus = *at < last || (*at == last && left > 0);
                left -= usize::from(is_surplus && *at == last);
                !is_surplus
            });
        }
        self.store_all();
    }

    fn store_all(&self) {
        if let Some(store) = &self.store {
            store.replace(self.known.iter().flat_map(|(identity, at)| record(*identity, *at)).collect());
        }
    }
}

impl fmt::Debug for EndedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndedSessions").field("len", &self.known.len()).finish_non_exhaustive()
    }
}

/// Returns whether all tokens of a session that ended at `at` have expired. None of them is renewed after its end.
fn has_expired(at: u32, now: UnixSeconds) -> bool {
    now.saturating_sub(u64::from(at)) > RENEWABLE_SECONDS_MAX
}

fn record(identity: Identity, at: u32) -> [u8; ENDED_RECORD_BYTES] {
    let mut record = [0; ENDED_RECORD_BYTES];
    let (first, rest) = record.split_at_mut(size_of::<Identity>());
    first.copy_from_slice(identity.bytes());
    rest.copy_from_slice(&at.to_le_bytes());
    record
}

fn parsed(record: &[u8; ENDED_RECORD_BYTES]) -> (Identity, u32) {
    let (identity, at) = record.split_first_chunk().expect("a record is longer than an identity");
    (Identity::from_bytes(*identity), u32::from_le_bytes(at.try_into().expect("the rest is a time")))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    /// The stored records.
    #[derive(Default, Clone)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl EndedStore for Memory {
        fn add(&self, record: &[u8; ENDED_RECORD_BYTES]) {
            self.0.lock().unwrap().extend_from_slice(record);
        }

        fn replace(&self, records: Vec<u8>) {
            *self.0.lock().unwrap() = records;
        }
    }

    fn identity(number: usize) -> Identity {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Identity::from_bytes(bytes)
    }

    fn restored(memory: &Memory, now: UnixSeconds) -> EndedSessions {
        let records = memory.0.lock().unwrap().clone();
        EndedSessions::restored(&records, now, Box::new(memory.clone()))
    }

    #[test]
    fn an_ended_session_is_remembered_until_its_tokens_have_expired() {
        let memory = Memory::default();
        let mut ended = restored(&memory, NOW);
        ended.add(identity(1), NOW);
        ended.add(identity(1), NOW + 9);
        ended.add(identity(2), NOW + 10);
        assert!(ended.contains(&identity(1)) && !ended.contains(&identity(3)));
        drop(ended);
        let later = NOW + RENEWABLE_SECONDS_MAX;
        let ended = restored(&memory, later);
        assert!(ended.contains(&identity(1)) && ended.contains(&identity(2)), "after a restart");
        drop(ended);
        let ended = restored(&memory, later + 1);
        assert!(!ended.contains(&identity(1)) && ended.contains(&identity(2)));
        assert_eq!(memory.0.lock().unwrap().len(), ENDED_RECORD_BYTES, "expired records are removed");
    }

    #[test]
    fn one_client_network_cannot_displace_an_ended_session_within_hours() {
        let rate = crate::app_gateway::NEW_SESSION_RATE;
        let (memory, hours) = (Memory::default(), 2);
        let mut ended = restored(&memory, NOW);
        ended.add(identity(0), NOW - 1);
        let sessions = rate.burst + hours * 3600 * rate.per_second;
        (1..=sessions as usize).for_each(|number| ended.add(identity(number), NOW));
        assert!(ended.contains(&identity(0)));
    }

    #[test]
    fn the_oldest_sessions_are_forgotten_first() {
        let memory = Memory::default();
        let mut ended = restored(&memory, NOW);
        (0..=ENDED_MAX).for_each(|number| ended.add(identity(number), NOW + number as u64 / 1000));
        assert_eq!(ended.known.len(), ENDED_MAX - ENDED_MAX / 8 + 1);
        assert!(!ended.contains(&identity(0)) && ended.contains(&identity(ENDED_MAX)));
        assert!(!ended.contains(&identity(6999)) && ended.contains(&identity(8000)));
        let again = restored(&memory, NOW);
        assert_eq!(again.known, ended.known);
        // The same times: as many are forgotten.
        let mut ended = EndedSessions::default();
        (0..=ENDED_MAX).for_each(|number| ended.add(identity(number), NOW));
        assert_eq!(ended.known.len(), ENDED_MAX - ENDED_MAX / 8 + 1);
    }
}
