//! A tenant's storage account: the number of bytes that the tenant's data occupies on disk, and the maximum of this
//! number.
//!
//! The account records the last known size of each file, so it knows the total size without opening a store. The sizes
//! come first from a scan of the tenant's folders, and then from each store after each of its writes. The size of a
//! file is the size of its blocks on disk, not its length, because key-value stores extend their files far in advance
//! without filling them.
//!
//! Data that the node itself keeps for the tenant is recorded as one number ([`StorageAccount::charge`]).
//!
//! A granted folder is also recorded as one number, its size at the last scan, because guests write to it without an
//! engine of this crate. Bytes that have been reserved for the writes of guests since then ([`StorageAccount::claim`])
//! are treated as used until the next scan. If the size of a folder cannot be measured, the folder is treated as if it
//! used the whole limit; otherwise a tenant could bypass the limit with such a folder.
//!
//! The file is long because a third of it is tests, and every function changes or reads the same total.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use isomer_disk::{Reserve, tree};

use crate::path_map::PathMap;
use crate::pool::locked;

/// The storage account of one tenant. The apps that use one account also share its two job queues: one for key-value
/// stores and one for SQL stores.
#[derive(Debug)]
pub struct StorageAccount {
    number: u64,
    limit: AtomicU64,
    /// The number of bytes by which the limit is raised ([`StorageAccount::lend`]).
    lent: AtomicU64,
    used: AtomicU64,
    /// The number of bytes in [`Self::used`] that the node itself stores for the tenant ([`StorageAccount::charge`]).
    charged: Mutex<u64>,
    refused: AtomicU64,
    files: Mutex<PathMap<u64>>,
    /// The folders whose files are all known, because the folders were scanned.
    scanned: Mutex<PathMap<()>>,
    /// The folders and files whose size could not be measured at the last attempt.
    uncounted: Mutex<PathMap<()>>,
    /// The number of bytes that are reserved for writes and copies ([`StorageAccount::claim`]).
    claimed: AtomicU64,
    /// The number of bytes in the tenant's key-value writes that wait for a thread.
    waiting: AtomicUsize,
    /// The number of bytes in the tenant's SQL statements and parameters that wait or run.
    pub(crate) statements: WaitingBytes,
    /// The space that must stay free on the disk; unset if there is no reserve.
    reserve: OnceLock<Arc<Reserve>>,
}

/// The total size of a tenant's waiting and running statements, in bytes.
#[derive(Debug, Default)]
pub(crate) struct WaitingBytes(AtomicUsize);

impl WaitingBytes {
    /// Adds the bytes of a statement to the total and returns `true`. Returns `false`, and adds nothing, if other
    /// statements wait or run and the total would exceed `bytes_max`.
    pub(crate) fn begin(&self, bytes: usize, bytes_max: usize) -> bool {
        let add = |waiting: usize| {
            let sum = waiting.saturating_add(bytes);
            (waiting == 0 || sum <= bytes_max).then_some(sum)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Subtracts the bytes of a statement that has ended or no longer waits from the total.
    pub(crate) fn end(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl StorageAccount {
    /// Creates an empty account whose limit is `limit` bytes.
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

    /// Returns the limit in bytes, without the loans ([`StorageAccount::lend`]).
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit for later writes. Existing data stays even if it exceeds the new limit.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Raises the limit by `bytes` until the returned loan is dropped. Used for copies that are removed before the loan
    /// ends, or that become permanent and replace other data of the tenant. A loan does not reduce the reserve of the
    /// disk.
    #[must_use]
    pub fn lend(self: &Arc<Self>, bytes: u64) -> StorageLoan {
        // Limits the loan, by which the account's limit is raised, so that the sum of all loans does not overflow. An
        // account without a limit needs no loan at all.
        let bytes = bytes.min(LOAN_BYTES_MAX);
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        StorageLoan { account: self.clone(), bytes }
    }

    /// Returns whether the used bytes exceed the limit plus the loans ([`StorageAccount::lend`]).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used() > self.bound()
    }

    /// Returns the known size of the files below `dir`, in bytes.
    #[must_use]
    pub fn used_in(&self, dir: &Path) -> u64 {
        locked(&self.files).below(dir).map(|(_, bytes)| bytes).sum()
    }

    /// Returns the limit plus the loans, in bytes.
    fn bound(&self) -> u64 {
        self.limit().saturating_add(self.lent.load(Ordering::Relaxed))
    }

    /// Sets the reserve: later writes that would leave less free space on the disk are refused. Only the first call has
    /// an effect.
    pub fn set_reserve(&self, reserve: Arc<Reserve>) {
        let _ = self.reserve.set(reserve);
    }

    /// Returns the number of used bytes, as far as it is known (see [`StorageAccount::scan`]). Returns at least the
    /// limit if the size of a file or folder cannot be measured.
    pub fn used(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        if self.is_limited() && !locked(&self.uncounted).is_empty() { used.max(self.bound()) } else { used }
    }

    /// Sets the number of bytes that the node itself keeps for the tenant, in addition to the tenant's own files.
    /// Concurrent calls run one after another, including their calls of `bytes`, so that the latest result is recorded.
    pub fn charge(&self, bytes: impl FnOnce() -> u64) {
        let mut charged = locked(&self.charged);
        let before = std::mem::replace(&mut *charged, bytes());
        // `charged` is still locked, so concurrent calls change `used` one after the other.
        if *charged >= before {
            self.used.fetch_add(*charged - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - *charged, Ordering::Relaxed);
        }
    }

    /// Returns the largest number of bytes to which [`StorageAccount::charge`] can set the charge without exceeding the
    /// limit: the current charge plus the available bytes.
    pub fn charges_max(&self) -> u64 {
        let charged = *locked(&self.charged);
        charged.saturating_add(self.room())
    }

    /// Returns the number of writes that were refused because of the limit.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Scans all files below `dir`, even if they were scanned before. A folder that does not exist has no files.
    /// Blocks.
    ///
    /// # Errors
    /// If a folder cannot be read. Until a later scan succeeds, `dir` is then treated as if it used the whole limit.
    pub fn scan(&self, dir: &Path) -> io::Result<()> {
        let mut found = HashMap::new();
        let counted = tree::walk(dir, |path, it| {
            found.insert(path.to_owned(), it.bytes.max(ENTRY_BYTES));
        });
        self.found(dir, found, counted)
    }

    /// Scans a folder that contains no stores. Records the size of its content as one number.
    ///
    /// # Errors
    /// The errors of [`StorageAccount::scan`].
    pub fn scan_folder(&self, dir: &Path) -> io::Result<()> {
        let mut bytes = 0_u64;
        let counted = tree::walk(dir, |_, it| bytes = bytes.saturating_add(it.bytes.max(ENTRY_BYTES)));
        self.found(dir, HashMap::from([(dir.to_owned(), bytes.saturating_add(ENTRY_BYTES))]), counted)
    }

    /// Scans all folders in `dir` with [`StorageAccount::scan_folder`], unless they were scanned before.
    ///
    /// # Errors
    /// The error of the last folder that cannot be read. The folders that can be read are measured nevertheless.
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
        // The entry of `dir` itself, if a scan of its parent folder has recorded it.
        let itself = files.get(dir).copied().filter(|_| is_there).map(|bytes| (dir.to_owned(), bytes));
        let removed: u64 = files.remove_below(dir).iter().map(|(_, bytes)| bytes).sum();
        let mut added = 0;
        for (path, bytes) in itself.into_iter().chain(found.into_iter().filter(|_| is_there)) {
            added += bytes;
            added -= files.insert(path, bytes).unwrap_or(0);
        }
        // `files` is still locked, so `used` always agrees with the sizes of the recorded files.
        self.used.fetch_add(added, Ordering::Relaxed);
        self.used.fetch_sub(removed, Ordering::Relaxed);
        let mut scanned = locked(&self.scanned);
        // A folder that could not be measured is not inserted, so the next [`StorageAccount::scan_once`] scans it
        // again.
        if counted.is_ok() && !scanned.covers(dir) {
            scanned.remove_below(dir);
            scanned.insert(dir.to_owned(), ());
        }
        counted
    }

    /// Scans `dir`, unless `dir` or a folder above it was scanned before.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn scan_once(&self, dir: &Path) -> io::Result<()> {
        if locked(&self.scanned).covers(dir) {
            return Ok(());
        }
        self.scan(dir)
    }

    /// Subtracts the sizes of the files below `dir` from the used bytes. The caller has already removed these files.
    pub fn forget(&self, dir: &Path) {
        locked(&self.uncounted).remove_below(dir);
        let mut files = locked(&self.files);
        let removed: u64 = files.remove_below(dir).iter().map(|(_, bytes)| bytes).sum();
        self.used.fetch_sub(removed, Ordering::Relaxed);
        // If the folder is created again, it must be scanned again.
        locked(&self.scanned).remove_below(dir);
    }

    /// Returns the number of the account, which is unique in the process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether the storage is limited, either by the tenant's limit or by the reserve of the disk.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit() != u64::MAX || self.reserve.get().is_some()
    }

    /// Returns the number of bytes that are available for writes.
    pub fn room(&self) -> u64 {
        let own = self.bound().saturating_sub(self.used()).saturating_sub(self.claimed.load(Ordering::Relaxed));
        match self.reserve.get() {
            Some(reserve) if own > 0 => own.min(reserve.room()),
            _ => own,
        }
    }

    /// Returns the error for a write that does not fit: `disk` if the write would reach the reserve of the disk before
    /// the tenant's limit, otherwise the result of `limit`, which receives the tenant's limit.
    pub(crate) fn full<E>(&self, disk: E, limit: impl FnOnce(u64) -> E) -> E {
        let own = self.bound().saturating_sub(self.used());
        if self.reserve.get().is_some_and(|reserve| reserve.room() < own) { disk } else { limit(self.limit()) }
    }

    /// Reserves `bytes` for a write, until [`StorageAccount::release_claim`] is called. Returns whether the bytes were
    /// available.
    pub(crate) fn claim(&self, bytes: u64) -> bool {
        // Adds the bytes before the check, so that two concurrent calls cannot both reserve the last available bytes.
        self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.used().saturating_add(self.claimed.load(Ordering::Relaxed));
        let fits = taken <= self.bound() && self.leaves_reserve(bytes);
        if !fits {
            self.release_claim(bytes);
        }
        fits
    }

    /// Returns whether the reserve of the disk stays free if `bytes` more are written now. A long operation must call
    /// this again before each step.
    pub(crate) fn leaves_reserve(&self, bytes: u64) -> bool {
        self.reserve.get().is_none_or(|reserve| reserve.room() >= bytes)
    }

    /// Releases a reservation of `bytes`. Must be called when the write did not need it, or when the written bytes have
    /// been measured and are part of the used bytes.
    pub(crate) fn release_claim(&self, bytes: u64) {
        self.claimed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds one to the number of refused writes.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Measures `file`, and records and returns its size in bytes. If the file cannot be measured, its previous size is
    /// kept, and the file is treated as if it used the whole limit until it can be measured.
    pub(crate) fn measure(&self, file: &Path) -> u64 {
        let (bytes, is_counted) = match std::fs::symlink_metadata(file) {
            Ok(metadata) => (Some(bytes_on_disk(&metadata)), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Some(0), true),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot measure a store's file, so the tenant's storage quota is treated as exhausted");
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
        // `files` is still locked, so `used` always agrees with the sizes of the recorded files.
        if bytes >= before {
            self.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        bytes
    }

    /// Adds the bytes of a write to the total of all waiting writes and returns `true`. Returns `false`, and adds
    /// nothing, if other writes wait and the total would exceed `bytes_max`.
    pub(crate) fn begin_waiting(&self, bytes: usize, bytes_max: usize) -> bool {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= bytes_max;
        if !fits {
            self.end_waiting(bytes);
        }
        fits
    }

    /// Subtracts the bytes of a write that no longer waits from the total of all waiting writes.
    pub(crate) fn end_waiting(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The maximum of one temporary increase of an account's limit, in bytes.
const LOAN_BYTES_MAX: u64 = 1 << 60;

/// A temporary increase of an account's limit. Dropping the loan ends the increase.
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

/// A reservation of an account's bytes for a write. Dropping it releases the reservation.
pub(crate) struct Claim<'a> {
    account: &'a StorageAccount,
    bytes: u64,
}

impl<'a> Claim<'a> {
    /// Reserves `bytes` of the account; `None` if they are not available.
    pub(crate) fn new(account: &'a StorageAccount, bytes: u64) -> Option<Self> {
        account.claim(bytes).then(|| Self { account, bytes })
    }

    /// Reserves additional `bytes`. Returns whether they were available.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.account.claim(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.account.release_claim(self.bytes);
    }
}

/// The minimum size that is recorded for a file or folder. Without a minimum, a tenant could fill the disk with names
/// and inodes of empty files.
const ENTRY_BYTES: u64 = 4096;

/// The unit in bytes of `st_blocks` in `stat(2)`, which does not depend on the file system's block size.
const BLOCK_BYTES: u64 = 512;

/// Returns the number of bytes that a file occupies on disk.
pub(crate) fn bytes_on_disk(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * BLOCK_BYTES
}

/// Returns the number of bytes that this thread has written to files since its start; 0 if the operating system does
/// not provide the number.
pub(crate) fn written_by_thread() -> u64 {
    // The format of this file is documented in proc_pid_io(5).
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
        // `scan_once` scans only folders that were not scanned before.
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
            assert_eq!(account.used(), 1 << 30, "a folder that cannot be measured is treated as full");
            account.set_limit(1 << 20);
            assert_eq!(account.used(), 1 << 20, "also under another limit");
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
        // Replaces the folder with a file, so that reading it fails with `ENOTDIR`, even for root.
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
    fn claims_count_until_they_are_released_and_leave_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let account = StorageAccount::new(1000);
        assert!(account.claim(600) && !account.claim(401) && account.claim(400));
        assert_eq!((account.room(), account.used()), (0, 0));
        account.release_claim(1000);
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
        account.release_claim(400);
        account.charge(|| 1200);
        assert!(account.is_over() && account.charges_max() == 1200, "existing data stays");
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
        account.release_claim(160_000 - used);
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
