//! A redb database that is opened again after its storage failed.
//!
//! After the first failure of its storage, redb refuses every operation, even reads, until the database is closed and
//! opened again, because redb's memory may differ from the file. Without this module, one moment without free space
//! would make a store unusable until the process restarts. [`Database`] records failures of the storage. The next
//! operation closes the database and opens it again, which rolls back uncommitted changes. Committed changes are not
//! lost, because they were synced.
//!
//! A failed sync is a special case: Linux then marks the pages as written, although the disk does not have their data.
//! Therefore [`FileStorage`] drops the file's pages from the page cache before it opens the file again.
//!
//! | rejected | why |
//! | --- | --- |
//! | a task that opens failed databases in the background | the first operation after the failure would still fail, and later operations can open the database themselves |
//! | detecting a failure by the error of an operation | such an error is only text when it arrives here; the storage layer sees exactly the failed operations |
//! | opening again immediately for every operation | opening after a failure reads the whole file; see [`PAUSE_PART`] |

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use crate::backend::{Health, Layer};

/// The pause after an attempt to open a failed database, as a multiple of the duration of the attempt. An attempt fails
/// while the disk is full, so without a pause each store on the disk would keep a thread busy with attempts. The first
/// attempt after a new failure is made without a pause.
const PAUSE_PART: u32 = 16;

/// The minimum pause between two attempts to open a failed database.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The maximum pause between two attempts to open a failed database. After the disk works again, the database is
/// unavailable for at most this time.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The place where a database is stored, such as a file.
pub trait Storage: Send + Sync + 'static {
    /// Opens the storage, and creates it first if it does not exist. `is_reopened` is true if the storage was open
    /// before and one of its operations failed.
    ///
    /// # Errors
    /// If the storage cannot be opened.
    fn open(&self, is_reopened: bool) -> Result<Box<dyn StorageBackend>, redb::Error>;
}

/// Storage in a file.
#[derive(Debug)]
pub struct FileStorage {
    path: PathBuf,
    /// Whether the file is created if it does not exist.
    is_created: bool,
}

/// An open database. A `redb::Error` in a result is an error of redb, or means that the database failed recently and
/// cannot be opened again yet.
pub struct Database {
    storage: Box<dyn Storage>,
    cache_bytes: usize,
    handle: RwLock<Handle>,
    /// The earliest time of the next attempt to open the database.
    next: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Handle {
    /// `None` while the database cannot be opened.
    database: Option<redb::Database>,
    health: Arc<Health>,
    /// The number of times that the database has been opened.
    generation: u64,
}

impl Database {
    /// Opens the database in `storage`, with a page cache of `cache_bytes`.
    ///
    /// # Errors
    /// If the storage or the database cannot be opened.
    pub fn open(storage: impl Storage, cache_bytes: usize) -> Result<Self, redb::Error> {
        let storage = Box::new(storage);
        let handle = Handle::open(&*storage, cache_bytes, 1)?;
        Ok(Self { storage, cache_bytes, handle: RwLock::new(handle), next: Mutex::default() })
    }

    /// Runs `work`, which must only read. If the storage fails during `work`, opens the database again and runs `work`
    /// a second time.
    ///
    /// # Errors
    /// The errors of `work`. Also an error if the database has failed and cannot be opened again yet.
    pub fn read<T, E: From<redb::Error>>(&self, work: impl Fn(&redb::Database) -> Result<T, E>) -> Result<T, E> {
        self.run(&work)?.or_else(|error| if self.has_failed() { self.run(&work)? } else { Err(error) })
    }

    /// Runs `work` like [`Database::read`]. If the database has failed, and the pause before the next attempt to open
    /// it is at most `pause_max`, waits for the end of the pause. Blocks.
    ///
    /// # Errors
    /// The errors of [`Database::read`].
    pub fn read_after_pause<T, E: From<redb::Error>>(
        &self,
        work: impl Fn(&redb::Database) -> Result<T, E>,
        pause_max: Duration,
    ) -> Result<T, E> {
        if self.has_failed() {
            let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = next.map(|next| next.saturating_duration_since(Instant::now()));
            if let Some(pause) = pause.filter(|pause| *pause <= pause_max) {
                std::thread::sleep(pause);
            }
        }
        self.read(work)
    }

    /// Runs `work`, which may write. If the storage fails, uncommitted changes are lost, and the next operation opens
    /// the database again.
    ///
    /// # Errors
    /// The errors of [`Database::read`].
    pub fn write<T, E: From<redb::Error>>(&self, work: impl FnOnce(&redb::Database) -> Result<T, E>) -> Result<T, E> {
        self.run(work)?
    }

    /// Returns how many times the database has been opened. If the database has failed, opens it again first. If the
    /// number has changed, a caller must discard what it knows about the content: a change whose commit failed may be
    /// in the reopened database nevertheless.
    pub fn generation(&self) -> Result<u64, redb::Error> {
        self.working().map(|handle| handle.generation)
    }

    /// Returns the redb database, so that the caller can close it. Returns `None` if the database has failed.
    #[must_use]
    pub fn into_inner(self) -> Option<redb::Database> {
        let handle = self.handle.into_inner().unwrap_or_else(PoisonError::into_inner);
        if handle.health.has_failed() { None } else { handle.database }
    }

    fn run<T, E: From<redb::Error>>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, E>,
    ) -> Result<Result<T, E>, E> {
        let handle = self.working()?;
        let database = handle.database.as_ref().expect("a working handle has a database");
        Ok(work(database))
    }

    fn has_failed(&self) -> bool {
        !self.locked().works()
    }

    /// Returns a handle whose database has no known failure. Opens the database again if it has failed.
    fn working(&self) -> Result<RwLockReadGuard<'_, Handle>, redb::Error> {
        let handle = self.locked();
        if handle.works() {
            return Ok(handle);
        }
        drop(handle);
        self.reopen()?;
        let handle = self.locked();
        if handle.database.is_some() { Ok(handle) } else { Err(not_yet()) }
    }

    /// Waits for running operations, closes the database and opens it again.
    fn reopen(&self) -> Result<(), redb::Error> {
        let mut handle: RwLockWriteGuard<'_, Handle> = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if handle.works() {
            return Ok(());
        }
        let start = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|next| start < next) {
            return Err(not_yet());
        }
        // The old handle holds the file's lock, so the old handle is closed before the file is opened again.
        drop(handle.database.take());
        let opened = Handle::open(&*self.storage, self.cache_bytes, handle.generation + 1);
        let pause = (start.elapsed() * PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
        *next = Some(Instant::now() + pause);
        match opened {
            Ok(opened) => {
                tracing::warn!(
                    generation = opened.generation,
                    "a database was opened again after its storage had failed"
                );
                *handle = opened;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "cannot reopen a database whose storage had failed; the next operation tries again");
                Err(error)
            }
        }
    }

    fn locked(&self) -> RwLockReadGuard<'_, Handle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Handle {
    fn open(storage: &dyn Storage, cache_bytes: usize, generation: u64) -> Result<Self, redb::Error> {
        let health = Arc::new(Health::default());
        let backend = Layer::new(storage.open(generation > 1)?, health.clone());
        let database = Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)?;
        Ok(Self { database: Some(database), health, generation })
    }

    fn works(&self) -> bool {
        self.database.is_some() && !self.health.has_failed()
    }
}

fn not_yet() -> redb::Error {
    redb::Error::Io(io::Error::other(
        "the disk failed a moment ago, and the database is not open again yet: try again later",
    ))
}

impl FileStorage {
    /// Creates the storage that consists of the file at `path`. [`Storage::open`] opens the file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), is_created: true }
    }

    /// Creates the storage that consists of the file at `path`, which must exist. [`Storage::open`] fails if it does not.
    #[must_use]
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), is_created: false }
    }

    /// Creates an empty database. redb refuses a file whose creation was interrupted, so the database is created under a
    /// temporary name, and gets its name when it is complete on disk.
    fn create(&self) -> Result<(), redb::Error> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let created = self.create_as(&temporary);
        if created.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        created
    }

    fn create_as(&self, temporary: &Path) -> Result<(), redb::Error> {
        // The file may be left over from a process that was killed.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(temporary)?;
        drop(Builder::new().create_with_backend(FileBackend::new(file.try_clone()?)?)?);
        file.sync_all()?;
        std::fs::rename(temporary, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Storage for FileStorage {
    fn open(&self, is_reopened: bool) -> Result<Box<dyn StorageBackend>, redb::Error> {
        if self.is_created && !self.path.try_exists()? {
            self.create()?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        if is_reopened {
            forget_pages(&file);
        }
        Ok(Box::new(FileBackend::new(file)?))
    }
}

/// Advises the system to read the file from the disk instead of from the page cache. A system that ignores the advice
/// does no harm.
fn forget_pages(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = file;
}
