//! The number of deployments in progress for each revision. It decides which deployment removes the files of a refused
//! revision.
//!
//! Files are removed as soon as their revision is refused. The hourly sweep would remove them only some hours later,
//! and a tenant with thousands of refused deployments in an hour could fill the disk. Several apps may deploy the same
//! revision at the same time, so only the deployment that ends last removes the files. No other deployment of the
//! revision can begin during the removal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_ids::ReleaseDigest;

type Counts = HashMap<ReleaseDigest, usize>;

/// The number of deployments in progress for each revision.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Arc<Mutex<Counts>>);

/// A deployment in progress. Dropping the value ends the deployment.
#[derive(Debug)]
pub(crate) struct Attempt {
    counts: Arc<Mutex<Counts>>,
    revision: ReleaseDigest,
}

impl Attempts {
    /// Begins a deployment of `revision`. Blocks while the files of the same revision are being removed.
    pub(crate) fn begin(&self, revision: &ReleaseDigest) -> Attempt {
        *lock(&self.0).entry(revision.clone()).or_default() += 1;
        Attempt { counts: self.0.clone(), revision: revision.clone() }
    }
}

impl Attempt {
    /// Ends the deployment. If no other deployment of the same revision is in progress, calls `remove`. No deployment
    /// of the revision can begin before `remove` returns. Blocks.
    pub(crate) fn end<T>(self, remove: impl FnOnce(&ReleaseDigest) -> T) -> Option<T> {
        let counts = self.counts.clone();
        let counts = lock(&counts);
        let removed = (counts.get(&self.revision) == Some(&1)).then(|| remove(&self.revision));
        // Release the lock before `self` is dropped, because `drop` takes the lock again.
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
        assert_eq!(removed, 0, "another deployment needs the files");
        second.end(|_| removed += 1);
        assert_eq!(removed, 1);
        drop(other);
        assert!(lock(&attempts.0).is_empty());
    }
}
