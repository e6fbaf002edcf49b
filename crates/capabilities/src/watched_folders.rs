//! Folders that components may write, as far as their tenant's quota of storage concerns them.
//!
//! Guests write files through `wasi:filesystem`, past every engine of ours. Each write claims what it may fill
//! ([`FolderStorage::claim`]), so a request that runs goes over the quota by no more than what is written while the folders are counted. The
//! count, again and again while somebody uses the folders, tells what is really there: a file that is written over takes no more
//! than before, and one that was removed takes nothing. An instance that begins when the storage is full gets its folders read-only, and
//! one that has them open is not used again.
//!
//! | rejected | why |
//! | --- | --- |
//! | project quotas of the file system (ext4, xfs) | exact, and without any of this, but they need root, a mount option and a file system that has them, and a node must hold tenants to their quotas without. An administrator who sets them on `tenants/NAME` has both: the guest is told the same |
//! | a file system of its own for each tenant (a loop device) | needs root, and its space is taken whether it is used or not |

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use isomer_runtime::folders::FolderStorage;
use tokio::sync::watch;

use crate::StorageAccount;
use crate::pool::{Lane, locked};

/// Least time between two counts that nobody waits for.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A write that finds nothing left waits for a count. Between two of them is a pause of this many times what a count takes: while the
/// storage is full, every write asks for one.
const PAUSE_PART: u32 = 8;

/// The least pause.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(crate) struct WatchedFolders {
    shared: Arc<Shared>,
    lane: Lane,
}

struct Shared {
    folders: Vec<PathBuf>,
    account: Arc<StorageAccount>,
    last: Mutex<Option<Counted>>,
    counting: AtomicBool,
    /// How often they were.
    counted: watch::Sender<u64>,
    /// What was claimed from the account and not counted yet.
    claimed: AtomicU64,
}

struct Counted {
    at: Instant,
    took: Duration,
}

/// A count that was asked for. However it ends, it is over.
struct Count(Arc<Shared>);

impl WatchedFolders {
    pub(crate) fn new(folders: Vec<PathBuf>, account: Arc<StorageAccount>, lane: Lane) -> Self {
        let shared = Shared {
            folders,
            account,
            last: Mutex::default(),
            counting: AtomicBool::new(false),
            counted: watch::Sender::default(),
            claimed: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), lane }
    }

    /// Counts a refusal, if it is one: before a count it only leads to one.
    fn told(&self, fits: bool) -> bool {
        if !fits && self.shared.pause_left().is_some() {
            self.shared.account.refuse();
        }
        fits
    }
}

impl FolderStorage for WatchedFolders {
    /// Has the folders counted anew, in the background, if that was not done just now.
    fn is_full(&self) -> bool {
        let account = &self.shared.account;
        if !account.is_limited() {
            return false;
        }
        if locked(&self.shared.last).as_ref().is_none_or(|last| last.at.elapsed() >= COUNT_EVERY) {
            self.shared.start_count(&self.lane);
        }
        let full = account.room() == 0;
        if full {
            account.refuse();
        }
        full
    }

    fn claim(&self, bytes: u64) -> bool {
        let fits = self.shared.account.claim(bytes);
        if fits {
            self.shared.claimed.fetch_add(bytes, Ordering::AcqRel);
        }
        self.told(fits)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.told(self.shared.account.room() >= bytes)
    }

    fn count(&self) -> BoxFuture<'static, ()> {
        let (shared, lane) = (self.shared.clone(), self.lane.clone());
        // Before anything is waited for: another's count will do.
        let mut counted = shared.counted.subscribe();
        Box::pin(async move {
            if let Some(pause) = shared.pause_left() {
                tokio::time::sleep(pause).await;
            }
            if !counted.has_changed().unwrap_or(true) {
                shared.start_count(&lane);
                let _ = counted.changed().await;
            }
        })
    }
}

impl Shared {
    /// Has the folders counted, in the background, unless they are being counted.
    fn start_count(self: &Arc<Self>, lane: &Lane) {
        if !self.counting.swap(true, Ordering::AcqRel) {
            let count = Count(self.clone());
            lane.spawn(move || count.0.count());
        }
    }

    /// How long to wait before the next count.
    fn pause_left(&self) -> Option<Duration> {
        let last = locked(&self.last);
        let last = last.as_ref()?;
        (last.took * PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX).checked_sub(last.at.elapsed())
    }

    fn count(&self) {
        let begun = Instant::now();
        // What is claimed from here on may be written after it was looked at.
        let claimed = self.claimed.load(Ordering::Acquire);
        for folder in &self.folders {
            if let Err(error) = self.account.scan_folder(folder) {
                tracing::warn!(folder = %folder.display(), %error, "a folder can't be counted: the quota of storage is used up");
            }
        }
        self.settle(claimed);
        *locked(&self.last) = Some(Counted { at: Instant::now(), took: begun.elapsed() });
    }

    fn settle(&self, bytes: u64) {
        self.claimed.fetch_sub(bytes, Ordering::AcqRel);
        self.account.settle(bytes);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.counting.store(false, Ordering::Release);
        self.0.counted.send_modify(|times| *times += 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.settle(self.claimed.load(Ordering::Acquire));
    }
}
