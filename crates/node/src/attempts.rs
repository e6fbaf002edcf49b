//! The deployments in progress, by revision. When a revision is refused, the files that were laid out for it are
//! removed immediately: `sweep` would remove them only after hours, and a tenant with thousands of refused deployments
//! in an hour would fill the disk with their folders.
//!
//! Several apps may deploy the same revision at the same time. So the last deployment that ends removes the files, and
//! no other deployment of the revision can begin during the removal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_ids::ReleaseDigest;

type Counts = HashMap<ReleaseDigest, usize>;

/// The number of deployments in progress for each revision.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Arc<Mutex<Counts>>);

/// A deployment in progress. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    counts: Arc<Mutex<Counts>>,
    revision: ReleaseDigest,
}

impl Attempts {
    /// Begins a deployment. Waits while the files of the same revision are being removed. Blocks.
    pub(crate) fn begin(&self, revision: &ReleaseDigest) -> Attempt {
        *lock(&self.0).entry(revision.clone()).or_default() += 1;
        Attempt { counts: self.0.clone(), revision: revision.clone() }
    }
}

impl Attempt {
    /// Ends the deployment, and calls `remove` if it is the last deployment of its revision. No other deployment of the
    /// revision can begin before `remove` returns. Blocks.
    pub(crate) fn end<T>(self, remove: impl FnOnce(&ReleaseDigest) -> T) -> Option<T> {
        let counts = self.counts.clone();
        let counts = lock(&counts);
        let removed = (counts.get(&self.revision) == Some(&1)).then(|| remove(&self.revision));
        // The lock must be released before `self` is dropped, because the drop takes it again.
        drop(counts);
        removed
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.revision);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_deployment_of_a_revision_removes_its_files() {
        let (attempts, revision) = (Attempts::default(), ReleaseDigest::from([1; 16]));
        let [first, second] = [attempts.begin(&revision), attempts.begin(&revision)];
        let other = attempts.begin(&ReleaseDigest::from([2; 16]));
        let mut removed = 0;
        first.end(|_| removed += 1);
        assert_eq!(removed, 0, "another one needs it");
        second.end(|_| removed += 1);
        assert_eq!(removed, 1);
        drop(other);
        assert!(lock(&attempts.0).is_empty());
    }
}
