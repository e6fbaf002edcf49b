//! The counters that all actors (clients and administrators) of a soak share, and the flag that stops them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The number of faults after which a soak ends, because more faults add no information.
const FAULTS_MAX: usize = 20;

/// The counters of a soak and the flag that stops it. All clients and administrators share them.
pub struct Tally {
    began: Instant,
    stopped: AtomicBool,
    correct: AtomicU64,
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
    /// Creates a tally with all counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            correct: AtomicU64::new(0),
            faults: Mutex::default(),
            changes: Mutex::default(),
            hostile: Mutex::default(),
        }
    }

    /// Sets the flag that stops all clients and administrators.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`Tally::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Counts a correct response to a good tenant.
    pub fn count_correct(&self) {
        self.correct.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of correct responses to good tenants.
    #[must_use]
    pub fn correct(&self) -> u64 {
        self.correct.load(Ordering::Relaxed)
    }

    /// Records a fault: a wrong response, a failed request of a good tenant, or a change that failed.
    pub fn fault(&self, what: String) {
        let at = self.began.elapsed().as_secs_f64();
        lock(&self.faults).push(format!("at {at:.2} s: {what}"));
    }

    /// Returns descriptions of all faults, oldest first.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    /// Returns whether so many faults were recorded that the soak can end.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        lock(&self.faults).len() >= FAULTS_MAX
    }

    /// Counts a successful change by an administrator.
    pub fn count_change(&self, kind: &'static str) {
        *lock(&self.changes).entry(kind).or_default() += 1;
    }

    /// Returns the number of changes by kind.
    #[must_use]
    pub fn changes(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.changes).clone()
    }

    /// Registers a hostile tenant before its first attack, so that the soak fails if the tenant never attacks.
    pub fn expect_hostile(&self, name: &'static str) {
        lock(&self.hostile).entry(name).or_default();
    }

    /// Counts an attack of the hostile tenant `name` that had the given outcome.
    pub fn count_hostile(&self, name: &'static str, outcome: String) {
        *lock(&self.hostile).entry(name).or_default().entry(outcome).or_default() += 1;
    }

    /// Returns the number of attacks with each outcome, by tenant.
    #[must_use]
    pub fn hostile(&self) -> BTreeMap<&'static str, BTreeMap<String, u64>> {
        lock(&self.hostile).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
