//! A redb database that is opened again after its storage failed.
//!
//! redb refuses every operation after the first that its storage failed, even a read, until the database is closed and opened
//! again: what its memory holds may not be what the file holds. So one moment without free space would make a store useless until the
//! process is restarted. [`Database`] notes failures below redb; the next operation closes the database and opens it, which
//! rolls back what was not committed. What was acknowledged was synced, and is there.
//!
//! A failed sync is a case of its own: Linux then takes the pages for written, and a reader finds in memory what the disk does not
//! have. So [`FileStorage`] drops the file's pages from memory before it opens the file again.
//!
//! | rejected | why |
//! | --- | --- |
//! | a task that opens failed databases in the background | it would wait for nobody's benefit, and the operation that comes first would still fail |
//! | parsing errors of operations | an error is text by the time that it arrives; the storage layer sees all failures, and only failures |
//! | opening again at once, as often as asked | opening after a failure reads the whole file; see [`PAUSE_PART`] |

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use crate::backend::{Health, Layer};

/// After an attempt to open a failed database there is a pause of this many times what it took, so that a disk that stays full costs
/// each of its stores a small part of a thread. The first attempt after a failure that comes later is made at once.
const PAUSE_PART: u32 = 16;

/// The least pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause between two attempts: this long after the disk works again, at the latest, so does the database.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where a database lies.
pub trait Storage: Send + Sync + 'static {
    /// Opens it, making it where it is not there. `anew`: it was open before, and an operation failed.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, anew: bool) -> Result<Box<dyn StorageBackend>, redb::Error>;
}

/// A database in a file.
#[derive(Debug)]
pub struct FileStorage {
    path: PathBuf,
}

/// An open database. What is called `redb::Error` in results is redb's, or says that the database failed a moment ago and is opened again soon.
pub struct Database {
    storage: Box<dyn Storage>,
    cache_bytes: usize,
    handle: RwLock<Handle>,
    /// When the next attempt may be made.
    next: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Handle {
    /// `None` while it cannot be opened.
    database: Option<redb::Database>,
    health: Arc<Health>,
    /// How often it was opened.
    generation: u64,
}

impl Database {
    /// Opens the database in `storage`, with a page cache of `cache_bytes`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(storage: impl Storage, cache_bytes: usize) -> Result<Self, redb::Error> {
        let storage = Box::new(storage);
        let handle = Handle::open(&*storage, cache_bytes, 1)?;
        Ok(Self { storage, cache_bytes, handle: RwLock::new(handle), next: Mutex::default() })
    }

    /// Runs `work`, which only reads. If the storage fails meanwhile, it is run a second time on the database opened again.
    ///
    /// # Errors
    /// Those of `work`, and when the database has failed and cannot be opened again yet.
    pub fn read<T, E: From<redb::Error>>(&self, work: impl Fn(&redb::Database) -> Result<T, E>) -> Result<T, E> {
        self.run(&work)?.or_else(|error| if self.has_failed() { self.run(&work)? } else { Err(error) })
    }

    /// As [`Database::read`], but waits for the end of the pause after an attempt to open a failed database, if that is not longer than
    /// `pause_max`. Blocks.
    ///
    /// # Errors
    /// As [`Database::read`].
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

    /// Runs `work`, which may write. If the storage fails, what was not committed is gone; the next operation opens the database again.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub fn write<T, E: From<redb::Error>>(&self, work: impl FnOnce(&redb::Database) -> Result<T, E>) -> Result<T, E> {
        self.run(work)?
    }

    /// How often the database was opened, once it works: after it was opened again, a change that was reported as failed may be there.
    ///
    /// # Errors
    /// When it has failed and cannot be opened again yet.
    pub fn generation(&self) -> Result<u64, redb::Error> {
        self.working().map(|handle| handle.generation)
    }

    /// The database itself, to close it; `None` if it has failed.
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

    /// A handle that has a database and, a moment ago, had not failed.
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

    /// Waits for the operations that run, closes the database and opens it.
    fn reopen(&self) -> Result<(), redb::Error> {
        let mut handle: RwLockWriteGuard<'_, Handle> = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if handle.works() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|next| begun < next) {
            return Err(not_yet());
        }
        // Closed before it is opened: its locks are in the way.
        drop(handle.database.take());
        let opened = Handle::open(&*self.storage, self.cache_bytes, handle.generation + 1);
        let pause = (begun.elapsed() * PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
        *next = Some(Instant::now() + pause);
        match opened {
            Ok(opened) => {
                tracing::warn!(generation = opened.generation, "a database whose storage had failed was opened again");
                *handle = opened;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a database whose storage had failed cannot be opened again yet");
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
        "the disk failed a moment ago; the database is opened again soon: try again later",
    ))
}

impl FileStorage {
    /// The file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl Storage for FileStorage {
    fn open(&self, anew: bool) -> Result<Box<dyn StorageBackend>, redb::Error> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        if anew {
            forget_pages(&file);
        }
        Ok(Box::new(FileBackend::new(file)?))
    }
}

/// Has the file read from the disk and not from memory. Advice: where the system does not take it, nothing is worse than without.
fn forget_pages(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = file;
}
