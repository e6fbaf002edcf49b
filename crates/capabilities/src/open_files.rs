//! The open files of stores. Each file is open at most once per process, and is opened again only after it was closed.
//!
//! A store is identified by the path of its file. The last handle of a store may be dropped on any thread. The file is
//! then closed on a thread of the pool, and opening the store again waits until the file is closed.
//!
//! If an operation on a file has failed ([`FileHold::fail`]), the operation is repeated before the file is opened
//! again. So a partly changed file is never used, and the store works again as soon as the disk works.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::pool::locked;

/// The minimum number of entries that are added before the entries of unused files are removed again.
const UNUSED_SLOTS_MAX: usize = 64;

/// The open files of one type of store `T`.
pub(crate) struct OpenFiles<T> {
    slots: Mutex<FileSlots<T>>,
}

struct FileSlots<T> {
    of_files: HashMap<PathBuf, Arc<FileSlot<T>>>,
    look_through_at: usize,
}

/// An operation that must succeed before a file may be opened.
#[derive(Clone)]
pub(crate) struct Unfinished(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

impl Unfinished {
    /// Creates the operation from a function that may block. The function is called again if it fails, so it must work
    /// with any state that an incomplete call leaves.
    pub(crate) fn new(work: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }

    /// Runs the operation once, and blocks until it has finished.
    pub(crate) fn carry_out(&self) -> io::Result<()> {
        (self.0)()
    }
}

struct FileSlot<T> {
    /// Locked while the file is being opened, and while a [`FileHold`] prevents the file from being opened.
    known: Arc<tokio::sync::Mutex<FileState<T>>>,
    /// Has one permit, which is taken while the file is open.
    file: Arc<Semaphore>,
}

/// The state of one store's file.
struct FileState<T> {
    /// The store, if its file is open.
    store: Weak<T>,
    unfinished: Option<Unfinished>,
}

/// The permit to have a file open. The owner must drop the permit after the file.
pub(crate) struct OpenPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A lock that prevents a file from being opened until the lock is dropped. Handles that are already open stay open.
pub(crate) struct FileHold<T> {
    /// The store, if its file is open.
    pub(crate) store: Option<Arc<T>>,
    known: OwnedMutexGuard<FileState<T>>,
    /// The permit to open the file, if the file is not open. Holding it prevents the file from being opened.
    _closed: Option<OwnedSemaphorePermit>,
}

impl<T> FileHold<T> {
    /// Returns the operation that failed and must be repeated successfully before the file may be opened; `None` if
    /// there is no such operation.
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        self.known.unfinished.clone()
    }

    /// Records that the unfinished operation has succeeded.
    pub(crate) fn finish(&mut self) {
        self.known.unfinished = None;
    }

    /// Prevents the file from being opened until the operation `unfinished` has succeeded. [`OpenFiles::get`] no longer
    /// returns the existing handles of the file. The caller ensures that these handles no longer have the file open.
    pub(crate) fn fail(mut self, unfinished: Unfinished) {
        *self.known = FileState { store: Weak::new(), unfinished: Some(unfinished) };
    }
}

impl OpenPermit {
    /// Returns a permit for a store whose file is not in a data directory.
    pub(crate) fn of_nothing() -> Self {
        Self { _permit: None }
    }
}

impl<T> Default for OpenFiles<T> {
    fn default() -> Self {
        Self { slots: Mutex::new(FileSlots { of_files: HashMap::new(), look_through_at: UNUSED_SLOTS_MAX }) }
    }
}

impl<T> OpenFiles<T> {
    /// Returns the store of the file `path`, and whether the store was already open. If it was not, waits until the
    /// previous handle has closed the file, and calls `open`. If a failed operation must be repeated first, `open`
    /// receives this operation and must run it before it opens the file.
    pub(crate) async fn get<E>(
        &self,
        path: &Path,
        open: impl AsyncFnOnce(OpenPermit, Option<Unfinished>) -> Result<Arc<T>, E>,
    ) -> Result<(Arc<T>, bool), E> {
        let slot = self.slot(path);
        let mut known = slot.known.lock().await;
        if let Some(store) = known.store.upgrade() {
            return Ok((store, true));
        }
        let permit = slot.file.clone().acquire_owned().await.expect("the semaphore is never closed");
        let opened = open(OpenPermit { _permit: Some(permit) }, known.unfinished.clone()).await?;
        *known = FileState { store: Arc::downgrade(&opened), unfinished: None };
        Ok((opened, false))
    }

    /// Waits until the file `path` is neither being opened nor being closed, and then prevents it from being opened.
    pub(crate) async fn hold(&self, path: &Path) -> FileHold<T> {
        let slot = self.slot(path);
        let known = slot.known.clone().lock_owned().await;
        let store = known.store.upgrade();
        let _closed = match store {
            None => Some(slot.file.clone().acquire_owned().await.expect("the semaphore is never closed")),
            Some(_) => None,
        };
        FileHold { store, known, _closed }
    }

    /// Waits until no file below `dir` is open.
    pub(crate) async fn closed(&self, dir: &Path) {
        for slot in self.below(dir) {
            let _closed = slot.file.acquire().await;
        }
    }

    /// Forgets unfinished operations on the files below `dir`. The caller has removed these files, and the operations
    /// must not run on new files with the same names. Waits for files that are being opened.
    pub(crate) async fn forget(&self, dir: &Path) {
        for slot in self.below(dir) {
            slot.known.lock().await.unfinished = None;
        }
    }

    /// Returns the number of files that are open or being closed.
    pub(crate) fn open(&self) -> usize {
        locked(&self.slots).of_files.values().filter(|slot| slot.file.available_permits() == 0).count()
    }

    fn below(&self, dir: &Path) -> Vec<Arc<FileSlot<T>>> {
        let slots = locked(&self.slots);
        slots.of_files.iter().filter(|(path, _)| path.starts_with(dir)).map(|(_, slot)| slot.clone()).collect()
    }

    fn slot(&self, path: &Path) -> Arc<FileSlot<T>> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.of_files.get(path) {
            return slot.clone();
        }
        if slots.of_files.len() >= slots.look_through_at {
            slots.of_files.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_used());
            slots.look_through_at = 2 * slots.of_files.len() + UNUSED_SLOTS_MAX;
        }
        let known = Arc::new(tokio::sync::Mutex::new(FileState { store: Weak::new(), unfinished: None }));
        let slot = Arc::new(FileSlot { known, file: Arc::new(Semaphore::new(1)) });
        slots.of_files.insert(path.to_owned(), slot.clone());
        slot
    }
}

impl<T> FileSlot<T> {
    /// Returns whether the file is open or locked, or has an unfinished operation.
    fn is_used(&self) -> bool {
        self.file.available_permits() == 0 || self.known.try_lock().map_or(true, |known| known.unfinished.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn unfinished_work_is_done_before_the_file_is_opened() {
        let (files, path) = (OpenFiles::<u32>::default(), Path::new("a"));
        let open = async |_: OpenPermit, unfinished: Option<Unfinished>| match unfinished.map(|job| job.carry_out()) {
            None | Some(Ok(())) => Ok(Arc::new(1)),
            Some(Err(error)) => Err(error),
        };
        let held = files.hold(path).await;
        let tries = Arc::new(AtomicUsize::new(0));
        let failing = tries.clone();
        held.fail(Unfinished::new(move || match failing.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }));
        // Opens and closes many other files. This removes the entries of unused files, but must not remove the entry
        // with the unfinished operation.
        for other in 0..3 * UNUSED_SLOTS_MAX {
            files.get(Path::new(&other.to_string()), async |_, _| Ok::<_, Infallible>(Arc::new(0))).await.unwrap();
        }
        assert_eq!(files.get(path, open).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let (store, was_open) = files.get(path, open).await.unwrap();
        assert_eq!((*store, was_open, tries.load(Ordering::SeqCst)), (1, false, 2));
        assert!(files.get(path, open).await.unwrap().1);
        assert!(files.hold(path).await.unfinished().is_none());
    }

    #[tokio::test]
    async fn unfinished_work_is_forgotten_with_the_file() {
        let files = OpenFiles::<u32>::default();
        let open = async |_: OpenPermit, unfinished: Option<Unfinished>| match unfinished {
            Some(_) => Err(()),
            None => Ok(Arc::new(1)),
        };
        for path in ["gone/a", "gone/b", "kept/a"] {
            files.hold(Path::new(path)).await.fail(Unfinished::new(|| Err(io::ErrorKind::NotFound.into())));
        }
        files.forget(Path::new("gone")).await;
        assert!(
            files.get(Path::new("gone/a"), open).await.is_ok() && files.get(Path::new("gone/b"), open).await.is_ok()
        );
        assert!(files.get(Path::new("kept/a"), open).await.is_err());
    }

    #[tokio::test]
    async fn a_store_is_not_given_out_after_its_file_failed() {
        let (files, path) = (OpenFiles::<u32>::default(), Path::new("a"));
        let (old, _) = files.get(path, async |_, _| Ok::<_, Infallible>(Arc::new(1))).await.unwrap();
        files.hold(path).await.fail(Unfinished::new(|| Ok(())));
        let (new, was_open) = files.get(path, async |_, _| Ok::<_, Infallible>(Arc::new(2))).await.unwrap();
        assert_eq!((*old, *new, was_open), (1, 2, false));
    }
}
