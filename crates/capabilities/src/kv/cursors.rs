//! Numeric cursors, for `wasi:keyvalue` 0.2.0-draft, which has no textual cursors.

use std::collections::VecDeque;

/// The maximum number of numeric cursors that a store remembers.
const CURSORS_MAX: usize = 4096;

/// Numeric cursors and the keys that they stand for, in the order of their creation.
#[derive(Default)]
pub(super) struct Cursors {
    given: VecDeque<(u64, String)>,
    last: u64,
}

impl Cursors {
    pub(super) fn give(&mut self, key: String) -> u64 {
        if self.given.len() >= CURSORS_MAX {
            self.given.pop_front();
        }
        self.last += 1;
        self.given.push_back((self.last, key));
        self.last
    }

    pub(super) fn find(&self, cursor: u64) -> Option<String> {
        let at = self.given.binary_search_by_key(&cursor, |(given, _)| *given).ok()?;
        Some(self.given[at].1.clone())
    }
}
