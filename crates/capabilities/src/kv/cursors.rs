//! Numeric cursors for listing keys, as `wasi:keyvalue` 0.2.0-draft requires.

use std::collections::VecDeque;

/// The maximum number of cursors that a store remembers.
const CURSORS_MAX: usize = 4096;

/// The cursors of a store, oldest first, each with the key after which its listing continues.
#[derive(Default)]
pub(crate) struct Cursors {
    cursors: VecDeque<(u64, String)>,
    last: u64,
}

impl Cursors {
    pub(crate) fn create(&mut self, key: String) -> u64 {
        if self.cursors.len() >= CURSORS_MAX {
            self.cursors.pop_front();
        }
        self.last += 1;
        self.cursors.push_back((self.last, key));
        self.last
    }

    pub(crate) fn find(&self, cursor: u64) -> Option<String> {
        let at = self.cursors.binary_search_by_key(&cursor, |(number, _)| *number).ok()?;
        Some(self.cursors[at].1.clone())
    }
}
