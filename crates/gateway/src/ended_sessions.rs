//! The sessions that ended most recently, so that a copied token of such a session stops working.
//!
//! The set is in memory and has a maximum size. After a restart, or after that many later sessions have ended, a copied
//! token is accepted again until it expires. An app that must prevent this removes the data of the identity.

use std::collections::{HashSet, VecDeque};

use crate::session::Identity;

/// The maximum number of ended sessions of an app that are remembered. A further one replaces the oldest.
pub(crate) const ENDED_MAX: usize = 1024;

/// The identities of ended sessions.
#[derive(Debug, Default)]
pub(crate) struct EndedSessions {
    order: VecDeque<Identity>,
    known: HashSet<Identity>,
}

impl EndedSessions {
    /// Adds a session that has ended.
    pub(crate) fn add(&mut self, identity: Identity) {
        if !self.known.insert(identity) {
            return;
        }
        self.order.push_back(identity);
        if self.order.len() > ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Returns whether a session has ended.
    pub(crate) fn contains(&self, identity: &Identity) -> bool {
        self.known.contains(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{KEY_BYTES, SessionKey};

    #[test]
    fn the_latest_sessions_are_remembered() {
        let key = SessionKey::new(&[1; KEY_BYTES]);
        let identities: Vec<_> = (0..=ENDED_MAX).map(|_| key.issue(0).unwrap().identity()).collect();
        let mut ended = EndedSessions::default();
        identities.iter().for_each(|identity| {
            ended.add(*identity);
            ended.add(*identity);
        });
        assert!(!ended.contains(&identities[0]));
        assert!(identities[1..].iter().all(|identity| ended.contains(identity)));
        assert_eq!(ended.order.len(), ended.known.len());
    }
}
