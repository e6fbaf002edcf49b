//! What all actors have seen together, and the word to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// With so many faults there is nothing more to learn.
const FAULTS_MAX: usize = 20;

/// Counters that all actors share.
pub struct Tally {
    began: Instant,
    stopped: AtomicBool,
    right: AtomicU64,
    faults: Mutex<Vec<String>>,
    changes: Mutex<BTreeMap<&'static str, u64>>,
    hostile: Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            right: AtomicU64::new(0),
            faults: Mutex::default(),
            changes: Mutex::default(),
            hostile: Mutex::default(),
        }
    }

    /// Tells all actors to come to their end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Are they to come to their end?
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A right answer to a good tenant.
    pub fn count_right(&self) {
        self.right.fetch_add(1, Ordering::Relaxed);
    }

    /// Right answers so far.
    #[must_use]
    pub fn right(&self) -> u64 {
        self.right.load(Ordering::Relaxed)
    }

    /// Something that must not be: a wrong answer, a failed request of a good tenant, a change that failed.
    pub fn fault(&self, what: String) {
        let at = self.began.elapsed().as_secs_f64();
        lock(&self.faults).push(format!("at {at:.2} s: {what}"));
    }

    /// All faults so far.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    /// Are there so many faults that going on says nothing?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        lock(&self.faults).len() >= FAULTS_MAX
    }

    /// A change that the admins made.
    pub fn count_change(&self, kind: &'static str) {
        *lock(&self.changes).entry(kind).or_default() += 1;
    }

    /// Changes so far, by kind.
    #[must_use]
    pub fn changes(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.changes).clone()
    }

    /// There is such a hostile tenant; it has done nothing yet.
    pub fn expect_hostile(&self, name: &'static str) {
        lock(&self.hostile).entry(name).or_default();
    }

    /// What a hostile tenant's request came to.
    pub fn count_hostile(&self, name: &'static str, outcome: String) {
        *lock(&self.hostile).entry(name).or_default().entry(outcome).or_default() += 1;
    }

    /// What hostile requests came to so far.
    #[must_use]
    pub fn hostile(&self) -> BTreeMap<&'static str, BTreeMap<String, u64>> {
        lock(&self.hostile).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
