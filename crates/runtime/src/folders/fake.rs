//! A [`FolderStorage`] for tests, with a fixed amount of free space. A new measurement of the folders does not change
//! the amount.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::storage::FolderStorage;
use crate::pool::{Account, AccountLimits};

pub(crate) struct FakeStorage {
    pub(crate) account: Arc<Account>,
    room: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) refused: AtomicUsize,
    pub(crate) counts: AtomicUsize,
    never_counted: AtomicBool,
    /// The host memory that `account` was charged for at certain times, in bytes. The first list has one value for each
    /// attempt to reserve space; the second list has one value for each write that ended.
    pub(crate) charged: Mutex<(Vec<u64>, Vec<u64>)>,
}

impl FakeStorage {
    pub(crate) fn new(room: u64, memory_bytes: u64) -> Arc<Self> {
        let limits = AccountLimits { memory_bytes, cpu_per_second: Duration::MAX };
        Arc::new(Self {
            account: Account::new("t".into(), limits),
            room: AtomicU64::new(room),
            pending: AtomicU64::new(0),
            refused: AtomicUsize::new(0),
            counts: AtomicUsize::new(0),
            never_counted: AtomicBool::new(false),
            charged: Mutex::default(),
        })
    }

    /// Makes every later measurement of the folders wait for ever.
    pub(crate) fn never_ends_counts(&self) {
        self.never_counted.store(true, Ordering::SeqCst);
    }
}

impl FolderStorage for FakeStorage {
    fn touched(&self) {}

    fn room(&self) -> u64 {
        self.room.load(Ordering::SeqCst)
    }

    fn claim(&self, bytes: u64) -> bool {
        self.charged.lock().unwrap().0.push(self.account.used().host_bytes);
        let take = |room: u64| room.checked_sub(bytes);
        let fits = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        self.pending.fetch_add(if fits { bytes } else { 0 }, Ordering::SeqCst);
        fits
    }

    fn written(&self, bytes: u64) {
        self.charged.lock().unwrap().1.push(self.account.used().host_bytes);
        self.pending.fetch_sub(bytes, Ordering::SeqCst);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> BoxFuture<'static, ()> {
        self.counts.fetch_add(1, Ordering::SeqCst);
        if self.never_counted.load(Ordering::SeqCst) { std::future::pending().boxed() } else { async {}.boxed() }
    }
}
