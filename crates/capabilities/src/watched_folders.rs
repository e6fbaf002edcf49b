//! Folders that components may write, as far as their tenant's quota of storage concerns them.
//!
//! Guests write files through `wasi:filesystem`, past every engine of ours, so nothing can be refused write by write. Instead the
//! folders are counted again and again while somebody uses them, and an instance that begins when the storage is full gets them read-only.
//! One that has them open is not used again. What the requests that run write until the next count is the most that can be over.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::StorageAccount;
use crate::pool::{Lane, locked};

/// Least time between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct WatchedFolders {
    shared: Arc<Shared>,
    lane: Lane,
}

struct Shared {
    folders: Vec<PathBuf>,
    account: Arc<StorageAccount>,
    counted_at: Mutex<Option<Instant>>,
    counting: AtomicBool,
}

impl WatchedFolders {
    pub(crate) fn new(folders: Vec<PathBuf>, account: Arc<StorageAccount>, lane: Lane) -> Self {
        let (counted_at, counting) = (Mutex::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { folders, account, counted_at, counting }), lane }
    }

    /// Is nothing left of the tenant's storage, as far as was counted? Has the folders counted anew, in the background, if that
    /// was not done just now.
    pub(crate) fn is_full(&self) -> bool {
        let account = &self.shared.account;
        if !account.is_limited() {
            return false;
        }
        let due = locked(&self.shared.counted_at).is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        if due && !self.shared.counting.swap(true, Ordering::AcqRel) {
            let shared = self.shared.clone();
            self.lane.spawn(move || shared.count());
        }
        let full = account.room() == 0;
        if full {
            account.refuse();
        }
        full
    }
}

impl Shared {
    fn count(&self) {
        for folder in &self.folders {
            if let Err(error) = self.account.scan(folder) {
                tracing::warn!(folder = %folder.display(), %error, "a folder can't be counted for the quota of storage");
            }
        }
        *locked(&self.counted_at) = Some(Instant::now());
        self.counting.store(false, Ordering::Release);
    }
}
