//! A tenant's storage account: the bytes that its data occupies on disk, and the limit for them.
//!
//! The account knows each file and its last size, so the sum is known without opening a store: initially from a scan of
//! the tenant's folders, then from each store after each of its writes. The size of a file is that of its blocks on
//! disk, not its length: key-value stores extend their files far in advance without filling them.
//!
//! Data that the node itself keeps for the tenant ([`StorageAccount::charge`]) is one more number.
//!
//! Granted folders, to which guests write without an engine of this crate, are one number each: the size at the last
//! scan. Bytes that guests have claimed since then ([`StorageAccount::claim`]) are treated as used until the next scan.
//! A folder whose size cannot be measured, for whatever reason, is treated as if it used the whole limit: otherwise
//! creating such a folder would bypass the limit.
//!
//! long because a third of it are tests, and the use is one sum, whichever part of it changes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use isomer_disk::{Reserve, tree};

use crate::path_map::PathMap;
use crate::pool::locked;

/// One tenant's storage account. All apps with the same account also have one common share of the threads.
#[derive(Debug)]
pub struct StorageAccount {
    number: u64,
    limit: AtomicU64,
    /// Bytes by which the limit is raised: see [`StorageAccount::lend`].
    lent: AtomicU64,
    used: AtomicU64,
    /// The part of [`Self::used`] for data that the node itself keeps for the tenant.
    charged: Mutex<u64>,
    refused: AtomicU64,
    files: Mutex<PathMap<u64>>,
    /// Folders of which all files are known.
    scanned: Mutex<PathMap<()>>,
    /// Folders whose size could not be measured at their last scan.
    uncounted: Mutex<PathMap<()>>,
    /// Bytes that guests have claimed for writes to folders since the folders were last measured.
    claimed: AtomicU64,
    /// Bytes of the tenant's key-value writes that wait for a thread.
    waiting: AtomicUsize,
    /// Bytes of the tenant's SQL statements and parameters that wait or run.
    pub(crate) statements: WaitingBytes,
    /// The space that must stay free on the disk, if it is set.
    reserve: OnceLock<Arc<Reserve>>,
}

/// A bounded number of bytes of waiting calls.
#[derive(Debug, Default)]
pub(crate) struct WaitingBytes(AtomicUsize);

impl WaitingBytes {
    /// Adds `bytes` and returns `true`, unless that would exceed `bytes_max`; a single call may exceed it.
    pub(crate) fn begin(&self, bytes: usize, bytes_max: usize) -> bool {
        let add = |waiting: usize| {
            let sum = waiting.saturating_add(bytes);
            (waiting == 0 || sum <= bytes_max).then_some(sum)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Subtracts the bytes of a call that no longer waits.
    pub(crate) fn end(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl StorageAccount {
    /// Creates an empty account with a limit in bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            limit: AtomicU64::new(limit),
            lent: AtomicU64::new(0),
            used: AtomicU64::new(0),
            charged: Mutex::default(),
            refused: AtomicU64::new(0),
            files: Mutex::default(),
            scanned: Mutex::default(),
            uncounted: Mutex::default(),
            claimed: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            reserve: OnceLock::new(),
            statements: WaitingBytes::default(),
        }
    }

    /// Creates an account without a limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit for later writes. Existing data stays, even if it exceeds the limit.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Raises the limit by `bytes` until the loan is dropped. Used for copies that exist only as long as the loan, or
    /// for which other data of the tenant can be removed if they become permanent. The reserve of the disk is not lent.
    #[must_use]
    pub fn lend(self: &Arc<Self>, bytes: u64) -> StorageLoan {
        // The loan is bounded so that the sum does not overflow. An account without a limit still has none.
        let bytes = bytes.min(LOAN_BYTES_MAX);
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        StorageLoan { account: self.clone(), bytes }
    }

    /// Returns whether the limit is exceeded.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used() > self.bound()
    }

    /// Returns the known size of the files below `dir`.
    #[must_use]
    pub fn used_in(&self, dir: &Path) -> u64 {
        locked(&self.files).below(dir).map(|(_, bytes)| bytes).sum()
    }

    /// The current limit, including loans.
    fn bound(&self) -> u64 {
        self.limit().saturating_add(self.lent.load(Ordering::Relaxed))
    }

    /// From now on, refuses writes that would leave less than the reserve on the disk. Only the first call has an
    /// effect.
    pub fn set_reserve(&self, reserve: Arc<Reserve>) {
        let _ = self.reserve.set(reserve);
    }

    /// Returns the used bytes, as far as they are known: see [`StorageAccount::scan`]. Returns at least the limit if a
    /// file or folder cannot be measured.
    pub fn used(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        if self.is_limited() && !locked(&self.uncounted).is_empty() { used.max(self.bound()) } else { used }
    }

    /// Sets the number of bytes that the node itself keeps for the tenant, in addition to the tenant's own files. Calls
    /// are serialized, including the call of `bytes`, so that the last one sets the final number.
    pub fn charge(&self, bytes: impl FnOnce() -> u64) {
        let mut charged = locked(&self.charged);
        let before = std::mem::replace(&mut *charged, bytes());
        // The lock is held, so the sum changes from one correct value to the next.
        if *charged >= before {
            self.used.fetch_add(*charged - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - *charged, Ordering::Relaxed);
        }
    }

    /// Returns the maximum that could be charged now: the current charge and the available bytes.
    pub fn charges_max(&self) -> u64 {
        let charged = *locked(&self.charged);
        charged.saturating_add(self.room())
    }

    /// The number of writes that were refused because of the limit.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Scans all files below `dir` again. A missing folder has no files. Blocks.
    ///
    /// # Errors
    /// If a folder cannot be read. It is then treated as if it used the whole limit, until it can be read.
    pub fn scan(&self, dir: &Path) -> io::Result<()> {
        let mut found = HashMap::new();
        let counted = tree::walk(dir, |path, it| {
            found.insert(path.to_owned(), it.bytes.max(ENTRY_BYTES));
        });
        self.found(dir, found, counted)
    }

    /// Scans a folder whose files are not stores. Its content is recorded as one number.
    ///
    /// # Errors
    /// As [`StorageAccount::scan`].
    pub fn scan_folder(&self, dir: &Path) -> io::Result<()> {
        let mut bytes = 0_u64;
        let counted = tree::walk(dir, |_, it| bytes = bytes.saturating_add(it.bytes.max(ENTRY_BYTES)));
        self.found(dir, HashMap::from([(dir.to_owned(), bytes.saturating_add(ENTRY_BYTES))]), counted)
    }

    /// Scans all folders in `dir` by [`StorageAccount::scan_folder`], unless that was done before.
    ///
    /// # Errors
    /// The last error. All folders that can be read are measured.
    pub fn scan_folders_once(&self, dir: &Path) -> io::Result<()> {
        if locked(&self.scanned).covers(dir) {
            return Ok(());
        }
        let folders = match std::fs::read_dir(dir) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.found(dir, HashMap::new(), Err(error)),
        };
        let mut counted = Ok(());
        for folder in folders {
            counted = folder.and_then(|folder| self.scan_folder(&folder.path())).and(counted);
        }
        if counted.is_ok() {
            locked(&self.scanned).insert(dir.to_owned(), ());
        }
        counted
    }

    fn found(&self, dir: &Path, found: HashMap<PathBuf, u64>, counted: io::Result<()>) -> io::Result<()> {
        let is_there = dir.exists();
        {
            let mut uncounted = locked(&self.uncounted);
            uncounted.remove_below(dir);
            if counted.is_err() {
                uncounted.insert(dir.to_owned(), ());
            }
        }
        let mut files = locked(&self.files);
        // The entry of the folder itself, which a scan of the folder above may have found.
        let itself = files.get(dir).copied().filter(|_| is_there).map(|bytes| (dir.to_owned(), bytes));
        let removed: u64 = files.remove_below(dir).iter().map(|(_, bytes)| bytes).sum();
        let mut added = 0;
        for (path, bytes) in itself.into_iter().chain(found.into_iter().filter(|_| is_there)) {
            added += bytes;
            added -= files.insert(path, bytes).unwrap_or(0);
        }
        // The lock is held, so the sum is always that of the recorded files.
        self.used.fetch_add(added, Ordering::Relaxed);
        self.used.fetch_sub(removed, Ordering::Relaxed);
        let mut scanned = locked(&self.scanned);
        // A folder that could not be measured is scanned again when it is opened the next time.
        if counted.is_ok() && !scanned.covers(dir) {
            scanned.remove_below(dir);
            scanned.insert(dir.to_owned(), ());
        }
        counted
    }

    /// Scans the folder, unless it or a folder above it was scanned before.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn scan_once(&self, dir: &Path) -> io::Result<()> {
        if locked(&self.scanned).covers(dir) {
            return Ok(());
        }
        self.scan(dir)
    }

    /// Forgets the files below `dir`, which were removed.
    pub fn forget(&self, dir: &Path) {
        locked(&self.uncounted).remove_below(dir);
        let mut files = locked(&self.files);
        let removed: u64 = files.remove_below(dir).iter().map(|(_, bytes)| bytes).sum();
        self.used.fetch_sub(removed, Ordering::Relaxed);
        // A folder that is created again is scanned again.
        locked(&self.scanned).remove_below(dir);
    }

    /// The number of the account, unique in the process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether there is a limit: the tenant's limit or the reserve of the disk.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit() != u64::MAX || self.reserve.get().is_some()
    }

    /// Returns the available bytes.
    pub fn room(&self) -> u64 {
        let own = self.bound().saturating_sub(self.used()).saturating_sub(self.claimed.load(Ordering::Relaxed));
        match self.reserve.get() {
            Some(reserve) if own > 0 => own.min(reserve.room()),
            _ => own,
        }
    }

    /// Returns the error of a write that does not fit: `limit` if the tenant's limit is exceeded; `disk` if the disk
    /// reaches its reserve first.
    pub(crate) fn full<E>(&self, disk: E, limit: impl FnOnce(u64) -> E) -> E {
        let own = self.bound().saturating_sub(self.used());
        if self.reserve.get().is_some_and(|reserve| reserve.room() < own) { disk } else { limit(self.limit()) }
    }

    /// Claims `bytes` for a write to a folder, until [`StorageAccount::settle`]. Returns whether they were available.
    pub(crate) fn claim(&self, bytes: u64) -> bool {
        // The bytes are added before the check, so that two concurrent claims cannot both get the last bytes.
        self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.used().saturating_add(self.claimed.load(Ordering::Relaxed));
        let fits = taken <= self.bound() && self.leaves_reserve(bytes);
        if !fits {
            self.settle(bytes);
        }
        fits
    }

    /// Returns whether the reserve of the disk stays free if `bytes` more are written now. Must be called again before
    /// each step of a long operation.
    pub(crate) fn leaves_reserve(&self, bytes: u64) -> bool {
        self.reserve.get().is_none_or(|reserve| reserve.room() >= bytes)
    }

    /// Ends a claim: the bytes have been measured, or were not used.
    pub(crate) fn settle(&self, bytes: u64) {
        self.claimed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds one to the number of refused writes.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Measures `file`, records its size and returns it. A file that cannot be measured keeps its previous size, and is
    /// treated as if it used the whole limit until it can be measured.
    pub(crate) fn measure(&self, file: &Path) -> u64 {
        let (bytes, is_counted) = match std::fs::symlink_metadata(file) {
            Ok(metadata) => (Some(bytes_on_disk(&metadata)), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Some(0), true),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a store's file cannot be measured, so the quota of storage counts as used up");
                (None, false)
            }
        };
        {
            let mut uncounted = locked(&self.uncounted);
            if !is_counted {
                uncounted.insert(file.to_owned(), ());
            } else if !uncounted.is_empty() {
                uncounted.remove(file);
            }
        }
        let mut files = locked(&self.files);
        let before = files.get(file).copied().unwrap_or(0);
        let bytes = bytes.unwrap_or(before);
        if bytes > 0 || before > 0 {
            files.insert(file.to_owned(), bytes);
        }
        // The lock is held, so the sum is always that of the recorded files.
        if bytes >= before {
            self.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        bytes
    }

    /// Adds `bytes` that wait to be written and returns `true`, unless that would exceed `bytes_max`; a single write
    /// may exceed it.
    pub(crate) fn begin_waiting(&self, bytes: usize, bytes_max: usize) -> bool {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= bytes_max;
        if !fits {
            self.end_waiting(bytes);
        }
        fits
    }

    /// Subtracts the bytes of a write that no longer waits.
    pub(crate) fn end_waiting(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The maximum size of one loan.
const LOAN_BYTES_MAX: u64 = 1 << 60;

/// A raised limit of an account. The raise ends when this is dropped.
#[derive(Debug)]
pub struct StorageLoan {
    account: Arc<StorageAccount>,
    bytes: u64,
}

impl Drop for StorageLoan {
    fn drop(&mut self) {
        self.account.lent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that are claimed for a write. The claim ends when this is dropped.
pub(crate) struct Claim<'a> {
    account: &'a StorageAccount,
    bytes: u64,
}

impl<'a> Claim<'a> {
    /// Claims `bytes`; returns `None` if they are not available.
    pub(crate) fn new(account: &'a StorageAccount, bytes: u64) -> Option<Self> {
        account.claim(bytes).then(|| Self { account, bytes })
    }

    /// Claims `bytes` more. Returns whether they were available.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.account.claim(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.account.settle(self.bytes);
    }
}

/// The minimum size of a file or folder, even if it is empty: a disk can also run out of space for names and inodes.
const ENTRY_BYTES: u64 = 4096;

/// The unit in which the number of blocks of a file is given, independent of the file system's block size (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// Returns the bytes that a file occupies on disk.
pub(crate) fn bytes_on_disk(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * BLOCK_BYTES
}

/// Returns the bytes that this thread has written to files since it was started; 0 if the system does not provide the
/// number.
pub(crate) fn written_by_thread() -> u64 {
    // See proc_pid_io(5).
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let written = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_forgotten_with_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a/kv"), dir.path().join("b"));
        for folder in [&first, &second] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("x"), vec![1; 10_000]).unwrap();
        }
        let account = StorageAccount::new(100_000);
        account.scan(&dir.path().join("missing")).unwrap();
        assert_eq!((account.used(), account.room()), (0, 100_000));
        account.scan(dir.path()).unwrap();
        let both = account.used();
        assert!((20_000..40_000).contains(&both), "{both}");
        account.scan(&first).unwrap();
        assert_eq!(account.used(), both);
        let file = account.measure(&first.join("x"));
        assert_eq!(account.used(), both);
        assert_eq!(both, 2 * file + 3 * ENTRY_BYTES, "two files and three folders");
        std::fs::remove_file(first.join("x")).unwrap();
        assert_eq!(account.measure(&first.join("x")), 0);
        assert_eq!(account.used(), both - file);
        // Known folders are not scanned again; new ones are.
        std::fs::write(second.join("y"), vec![1; 10_000]).unwrap();
        account.scan_once(&second).unwrap();
        assert_eq!(account.used(), both - file);
        account.measure(&second.join("y"));
        account.forget(&second);
        assert_eq!(account.used(), 2 * ENTRY_BYTES, "the folders `a` and `a/kv`");
    }

    #[test]
    fn an_uncountable_folder_counts_as_full_until_it_can_be_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().join("data");
        let top = deep.clone();
        deep.extend(vec!["d"; tree::DEPTH_MAX + 1]);
        std::fs::create_dir_all(&deep).unwrap();
        let account = StorageAccount::new(1 << 30);
        for _ in 0..2 {
            account.scan_folder(&top).unwrap_err();
            assert_eq!((account.used(), account.room(), account.claim(1)), (1 << 30, 0, false));
        }
        std::fs::remove_dir(&deep).unwrap();
        account.scan_folder(&top).unwrap();
        assert_eq!(account.used(), (tree::DEPTH_MAX as u64 + 1) * ENTRY_BYTES);
        assert!(account.claim(1 << 20));
        tree::remove(&top).unwrap();
        account.forget(&top);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn a_file_adds_only_its_size_while_something_cannot_be_counted() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("data");
        let mut deep = top.clone();
        deep.extend(vec!["d"; tree::DEPTH_MAX + 1]);
        std::fs::create_dir_all(&deep).unwrap();
        let (file, account) = (dir.path().join("file"), StorageAccount::new(1 << 30));
        account.scan_folder(&top).unwrap_err();
        let counted = account.used.load(Ordering::Relaxed);
        for length in [10_000, 100_000, 10] {
            std::fs::write(&file, vec![1; length]).unwrap();
            let bytes = account.measure(&file);
            assert_eq!(account.used(), 1 << 30, "what is not counted counts as all there is");
            account.set_limit(1 << 20);
            assert_eq!(account.used(), 1 << 20, "under another limit, too");
            account.set_limit(u64::MAX);
            assert_eq!(account.used(), counted + bytes);
            account.set_limit(1 << 30);
        }
    }

    #[test]
    fn a_file_that_cannot_be_measured_counts_as_full_until_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let (file, account) = (dir.path().join("a/file"), StorageAccount::new(1 << 30));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(&file, vec![1; 10_000]).unwrap();
        let bytes = account.measure(&file);
        // A file takes the place of the folder, so that reading fails with `ENOTDIR` for every user, even root.
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!((account.measure(&file), account.used(), account.room()), (bytes, 1 << 30, 0));
        std::fs::remove_file(dir.path().join("a")).unwrap();
        std::fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
        assert_eq!((account.measure(&file), account.used()), (bytes, bytes));
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!((account.measure(&file), account.used()), (0, 0));
    }

    #[test]
    fn claims_count_until_they_are_settled_and_leave_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let account = StorageAccount::new(1000);
        assert!(account.claim(600) && !account.claim(401) && account.claim(400));
        assert_eq!((account.room(), account.used()), (0, 0));
        account.settle(1000);
        assert_eq!(account.room(), 1000);
        {
            let mut claim = Claim::new(&account, 700).unwrap();
            assert!(!claim.grow(301) && claim.grow(300) && Claim::new(&account, 1).is_none());
        }
        assert_eq!(account.room(), 1000);
        account.set_reserve(Arc::new(Reserve::new(dir.path(), u64::MAX)));
        assert!(!account.claim(1) && account.is_limited());
        assert_eq!((account.room(), account.full("disk", |_| "limit")), (0, "disk"));
        account.set_limit(0);
        assert_eq!(account.full("disk", |_| "limit"), "limit");
    }

    #[test]
    fn charges_of_the_node_count_until_they_are_released() {
        let account = StorageAccount::new(1000);
        account.charge(|| 600);
        assert_eq!((account.used(), account.room(), account.charges_max()), (600, 400, 1000));
        assert!(!account.claim(401) && account.claim(400));
        assert_eq!(account.charges_max(), 600);
        account.settle(400);
        account.charge(|| 1200);
        assert!(account.is_over() && account.charges_max() == 1200, "what is there stays");
        account.charge(|| 0);
        assert_eq!((account.used(), account.charges_max()), (0, 1000));
    }

    #[test]
    fn a_loan_makes_room_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), vec![1; 10_000]).unwrap();
        let account = Arc::new(StorageAccount::new(10_000));
        account.scan(dir.path()).unwrap();
        let used = account.used();
        assert_eq!((account.room(), account.is_over(), account.used_in(dir.path())), (0, used > 10_000, used));
        let loans = [account.lend(100_000), account.lend(50_000)];
        assert_eq!((account.room(), account.limit(), account.is_over()), (160_000 - used, 10_000, false));
        assert!(account.claim(160_000 - used) && !account.claim(1));
        account.settle(160_000 - used);
        drop(loans);
        assert_eq!(account.room(), 0);
        let endless = Arc::new(StorageAccount::unlimited());
        let _loan = endless.lend(u64::MAX);
        assert_eq!(endless.room(), u64::MAX);
    }

    #[test]
    fn waiting_bytes_are_bounded_except_for_a_single_write() {
        let account = StorageAccount::unlimited();
        assert!(account.begin_waiting(1000, 100));
        assert!(!account.begin_waiting(1, 100));
        account.end_waiting(1000);
        assert!(account.begin_waiting(60, 100) && account.begin_waiting(40, 100) && !account.begin_waiting(1, 100));
    }
}
