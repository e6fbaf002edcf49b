//! Enforces a tenant's storage quota for folders that components may write to.
//!
//! Guests write files through `wasi:filesystem`, without an engine of this crate. Before each write, the bytes that the
//! write may add are reserved ([`FolderStorage::claim`]). The actual size is measured by a scan of the folders, because
//! a file that is overwritten occupies no more space than before, and a removed file none. So a running request can
//! exceed the quota by at most what is written during a scan. The reservation of a write is released by the first scan
//! that starts after the write has ended, because an unfinished write may still use its reservation.
//!
//! Scans run in the background: at intervals while the folders are used, when reservations have taken half of the
//! available space, and when the folders are no longer used. Therefore, the quota cannot be filled by reservations for
//! many small writes, each of which reserves whole blocks, and everything that was written is measured eventually. If a
//! write finds no available space, it waits for a scan.
//!
//! If there is no available space, operations that need space are refused. All other operations are allowed: files can
//! be read, truncated and removed.
//!
//! | rejected | why |
//! | --- | --- |
//! | project quotas of the file system (ext4, xfs) | exact and simple, but they need root, a mount option and a file system that supports them, and a node must enforce its quotas without these. An administrator can set them on `tenants/NAME` in addition: the guest gets the same error |
//! | a separate file system for each tenant (a loop device) | it needs root, and its space is occupied whether it is used or not |

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use isomer_runtime::folders::FolderStorage;
use tokio::sync::watch;

use crate::StorageAccount;
use crate::pool::{JobQueue, locked};

/// The minimum interval between two scans of the folders, if no write waits for a scan.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The pause after a scan of the folders, as a multiple of the time that the scan took. A pause is needed because every
/// write requests a scan while the storage is nearly full.
const PAUSE_PART: u32 = 8;

/// The minimum pause between two scans of the folders.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The maximum pause between two scans of the folders. A write that finds no available space may have to wait that
/// long.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(crate) struct WatchedFolders {
    shared: Arc<FolderCounts>,
    job_queue: JobQueue,
}

struct FolderCounts {
    folders: Vec<PathBuf>,
    account: Arc<StorageAccount>,
    last: Mutex<Option<LastCount>>,
    counting: Mutex<CountState>,
    /// The number of the last finished scan of the folders. Scans are numbered from 1.
    counted: watch::Sender<u64>,
    /// The number of bytes that are still reserved for writes that have ended. The next scan to start will measure the
    /// written data, and then release this reservation.
    written: AtomicU64,
}

#[derive(Default)]
struct CountState {
    /// The number of the last started scan of the folders. Scans are numbered from 1.
    started: u64,
    is_running: bool,
    /// Whether another scan must start after the running scan has ended.
    again: bool,
}

struct LastCount {
    at: Instant,
    took: Duration,
}

/// A requested scan of the folders. Dropping it marks the scan as ended, even if the scan panicked or never ran.
struct RequestedCount {
    shared: Arc<FolderCounts>,
    is_over: bool,
}

impl WatchedFolders {
    pub(crate) fn new(folders: Vec<PathBuf>, account: Arc<StorageAccount>, job_queue: JobQueue) -> Self {
        let shared = FolderCounts {
            folders,
            account,
            last: Mutex::default(),
            counting: Mutex::default(),
            counted: watch::Sender::default(),
            written: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), job_queue }
    }

    /// Starts a scan of the folders in the background if the last one is old, or if reservations take a large part of
    /// the available space.
    fn keep_counted(&self) {
        if !self.shared.account.is_limited() {
            return;
        }
        let written = self.shared.written.load(Ordering::Relaxed);
        let is_much = written > 0 && written >= self.shared.account.room() && self.shared.pause_left().is_none();
        if is_much || self.shared.is_due() {
            self.shared.start_any_count(&self.job_queue);
        }
    }
}

impl FolderStorage for WatchedFolders {
    fn touched(&self) {
        self.keep_counted();
    }

    fn room(&self) -> u64 {
        self.shared.account.room()
    }

    fn claim(&self, bytes: u64) -> bool {
        let fits = self.shared.account.claim(bytes);
        self.keep_counted();
        fits
    }

    fn written(&self, bytes: u64) {
        self.shared.written.fetch_add(bytes, Ordering::AcqRel);
    }

    fn refused(&self) {
        self.shared.account.refuse();
    }

    fn count(&self) -> BoxFuture<'static, ()> {
        let (shared, job_queue) = (self.shared.clone(), self.job_queue.clone());
        // The number of the first scan that starts after this point. A scan that is already running may miss earlier
        // writes.
        let number = locked(&shared.counting).started + 1;
        let mut counted = shared.counted.subscribe();
        Box::pin(async move {
            if let Some(pause) = shared.pause_left() {
                tokio::time::sleep(pause).await;
            }
            shared.start_count(&job_queue, number);
            // The wait cannot fail, because `shared` contains the sender.
            let _ = counted.wait_for(|ended| *ended >= number).await;
        })
    }
}

/// Starts a last scan, so that the app's last writes are measured.
impl Drop for WatchedFolders {
    fn drop(&mut self) {
        if self.shared.written.load(Ordering::Acquire) > 0 {
            let next = locked(&self.shared.counting).started + 1;
            self.shared.start_count(&self.job_queue, next);
        }
    }
}

impl FolderCounts {
    /// Starts a scan in the background, unless a scan is running.
    fn start_any_count(self: &Arc<Self>, job_queue: &JobQueue) {
        let counting = locked(&self.counting);
        if !counting.is_running {
            self.begin(counting, job_queue);
        }
    }

    /// Ensures that the scan with this `number`, or a later one, runs in the background. If an earlier scan is running,
    /// another scan starts after it.
    fn start_count(self: &Arc<Self>, job_queue: &JobQueue, number: u64) {
        let mut counting = locked(&self.counting);
        if counting.is_running {
            counting.again |= counting.started < number;
        } else if counting.started < number {
            self.begin(counting, job_queue);
        }
    }

    fn begin(self: &Arc<Self>, mut counting: MutexGuard<'_, CountState>, job_queue: &JobQueue) {
        (counting.is_running, counting.started) = (true, counting.started + 1);
        drop(counting);
        let count = RequestedCount { shared: self.clone(), is_over: false };
        job_queue.spawn(move || count.run());
    }

    /// Returns whether the last scan is so old that the next one should start, even if no write waits for it.
    fn is_due(&self) -> bool {
        let last = locked(&self.last);
        last.as_ref().is_none_or(|last| last.at.elapsed() >= (last.took * PAUSE_PART).max(COUNT_EVERY))
    }

    /// Returns the time until the next scan may start; `None` if it may start now.
    fn pause_left(&self) -> Option<Duration> {
        let last = locked(&self.last);
        let last = last.as_ref()?;
        (last.took * PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX).checked_sub(last.at.elapsed())
    }

    fn count(&self) {
        let start = Instant::now();
        // Reads `written` before the scan: the scan may miss data that is written from now on, so the reservations for
        // that data must stay.
        let written = self.written.load(Ordering::Acquire);
        for folder in &self.folders {
            if let Err(error) = self.account.scan_folder(folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot measure a folder, so the tenant's storage quota is treated as exhausted");
            }
        }
        self.release_claims(written);
        *locked(&self.last) = Some(LastCount { at: Instant::now(), took: start.elapsed() });
    }

    fn release_claims(&self, bytes: u64) {
        self.written.fetch_sub(bytes, Ordering::AcqRel);
        self.account.release_claim(bytes);
    }
}

impl RequestedCount {
    fn run(mut self) {
        while !self.is_over {
            self.shared.count();
            // While this lock is held, `start_count` cannot change `again` or `is_running`, so no request for another
            // scan is lost.
            let mut counting = locked(&self.shared.counting);
            self.shared.counted.send_replace(counting.started);
            self.is_over = !std::mem::take(&mut counting.again);
            if self.is_over {
                counting.is_running = false;
            } else {
                counting.started += 1;
            }
        }
    }
}

impl Drop for RequestedCount {
    fn drop(&mut self) {
        // The scan did not run, or it panicked.
        if !self.is_over {
            let mut counting = locked(&self.shared.counting);
            (counting.is_running, counting.again) = (false, false);
            // If another scan was requested to follow, it will not run either. Count it as started and finished, so
            // that no caller waits for it.
            counting.started += 1;
            self.shared.counted.send_replace(counting.started);
        }
    }
}

impl Drop for FolderCounts {
    fn drop(&mut self) {
        // If no thread could be started for the last scan, that scan has not released the reservations.
        self.release_claims(self.written.load(Ordering::Acquire));
    }
}

#[cfg(test)]
mod tests {
    use isomer_runtime::Account;

    use super::*;
    use crate::pool::{JobQueueBounds, Pool, PoolSize};

    const LIMIT: u64 = 1 << 20;

    struct Bench {
        dir: tempfile::TempDir,
        account: Arc<StorageAccount>,
        folders: WatchedFolders,
        pool: Arc<Pool>,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let account = Arc::new(StorageAccount::new(LIMIT));
        account.scan_folder(dir.path()).unwrap();
        let pool = Pool::new("test", PoolSize { threads_max: 1, reserve_max: 0 });
        let job_queue = pool.job_queue(1, Account::unlimited(), JobQueueBounds { running_max: 1, waiting_max: 9 });
        let folders = WatchedFolders::new(vec![dir.path().to_owned()], account.clone(), job_queue);
        Bench { dir, account, folders, pool }
    }

    #[tokio::test]
    async fn a_claim_is_released_by_a_count_that_started_after_its_write() {
        let Bench { dir: _dir, account, folders, .. } = bench();
        let left = account.room();
        assert!(folders.claim(100_000) && folders.claim(200_000));
        folders.count().await;
        folders.count().await;
        assert_eq!(account.room(), left - 300_000, "neither write has ended");
        folders.written(100_000);
        folders.count().await;
        assert_eq!(account.room(), left - 200_000);
        folders.written(200_000);
        folders.count().await;
        assert_eq!(account.room(), left);
    }

    #[tokio::test]
    async fn many_small_writes_are_counted_before_their_claims_use_up_the_quota() {
        let Bench { dir: _dir, account, folders, .. } = bench();
        // Scans now, so that the next periodic scan is due only after [`COUNT_EVERY`], when this test is over.
        folders.count().await;
        let counted = LastCount { at: Instant::now() - PAUSE_MIN, took: Duration::ZERO };
        *locked(&folders.shared.last) = Some(counted);
        let mut counted = folders.shared.counted.subscribe();
        let mut claims = 0;
        while !counted.has_changed().unwrap() && !locked(&folders.shared.counting).is_running {
            assert!(folders.claim(8192), "refused after {claims} reservations: {account:?}");
            folders.written(8192);
            claims += 1;
        }
        counted.changed().await.unwrap();
        assert!(claims <= LIMIT / 8192 / 2 + 1, "{claims}");
        assert!(account.room() > LIMIT / 2, "{account:?}");
    }

    #[tokio::test]
    async fn the_last_writes_are_counted_when_the_app_is_unloaded() {
        let Bench { dir, account, folders, pool } = bench();
        folders.count().await;
        assert!(folders.claim(500_000));
        std::fs::write(dir.path().join("f"), vec![1; 500_000]).unwrap();
        folders.written(500_000);
        drop(folders);
        // Waits until all requested scans have ended.
        drop(pool);
        assert!(account.used() >= 500_000, "{account:?}");
        assert_eq!(account.room(), LIMIT - account.used(), "the bytes are no longer reserved");
    }
}
