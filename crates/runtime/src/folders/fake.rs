//! A storage for tests: so much room, which counting does not change.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::FolderStorage;
use crate::account::{Account, AccountLimits};

pub(super) struct Fake {
    pub(super) account: Arc<Account>,
    room: AtomicU64,
    pub(super) pending: AtomicU64,
    pub(super) refused: AtomicUsize,
    pub(super) counts: AtomicUsize,
    /// What the account was charged whenever space was claimed, and whenever a write was over.
    pub(super) charged: Mutex<(Vec<u64>, Vec<u64>)>,
}

impl Fake {
    pub(super) fn new(room: u64, memory_bytes: u64) -> Arc<Self> {
        let limits = AccountLimits { memory_bytes, cpu_per_second: Duration::MAX };
        Arc::new(Self {
            account: Account::new("t".into(), limits),
            room: AtomicU64::new(room),
            pending: AtomicU64::new(0),
            refused: AtomicUsize::new(0),
            counts: AtomicUsize::new(0),
            charged: Mutex::default(),
        })
    }
}

impl FolderStorage for Fake {
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
        async {}.boxed()
    }
}
