//! Which files of stores are open: each at most once in a process, and again only after it was closed.
//!
//! A store is found by its file. Its last handle may be dropped anywhere; the file is then closed on a thread of the pool, and
//! whoever opens the store meanwhile waits for that.
//!
//! Something that was to be done to a file and failed ([`FileHold::fail`]) is done again before the file is opened next. So the file is
//! not used half done, and works again as soon as the disk does.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::pool::locked;

/// FileSlots that may be unused before they are looked through.
const UNUSED_SLOTS_MAX: usize = 64;

/// The open files of stores of the kind `T`.
pub(crate) struct OpenFiles<T> {
    slots: Mutex<FileSlots<T>>,
}

struct FileSlots<T> {
    of_files: HashMap<PathBuf, Arc<FileSlot<T>>>,
    look_through_at: usize,
}

/// What must be done to a file before it may be opened.
#[derive(Clone)]
pub(crate) struct Unfinished(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

impl Unfinished {
    /// `work` blocks, and can be done again wherever it failed.
    pub(crate) fn new(work: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }

    /// Tries to do it. Blocks.
    pub(crate) fn carry_out(&self) -> io::Result<()> {
        (self.0)()
    }
}

struct FileSlot<T> {
    /// FileHold while the file is opened, or kept from being opened.
    known: Arc<tokio::sync::Mutex<FileState<T>>>,
    /// Taken by whoever has the file open, until it is closed.
    file: Arc<Semaphore>,
}

/// What is known of a file.
struct FileState<T> {
    /// The store, while it is open.
    store: Weak<T>,
    unfinished: Option<Unfinished>,
}

/// The right to have a file open. Drop it after the file.
pub(crate) struct OpenPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Keeps the file from being opened while this lives. Handles that are open stay open.
pub(crate) struct FileHold<T> {
    /// The store, if it is open.
    pub(crate) store: Option<Arc<T>>,
    known: OwnedMutexGuard<FileState<T>>,
    /// Taken where the file is not open.
    _closed: Option<OwnedSemaphorePermit>,
}

impl<T> FileHold<T> {
    /// What is to be done before the file may be opened, where something failed earlier.
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        self.known.unfinished.clone()
    }

    /// It has been done.
    pub(crate) fn finish(&mut self) {
        self.known.unfinished = None;
    }

    /// From now on, the file may be opened only after `unfinished` was done. Handles that are open are not given to anyone any more; the
    /// caller sees to it that they no longer have the file open.
    pub(crate) fn fail(mut self, unfinished: Unfinished) {
        *self.known = FileState { store: Weak::new(), unfinished: Some(unfinished) };
    }
}

impl OpenPermit {
    /// Of something that isn't a file of the data directory.
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
    /// The store of `path`: the open one with `true`, or what `open` makes, after its previous owner closed the file. `open`
    /// does first what is unfinished.
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

    /// Keeps everybody from opening the file `path`, once it is open or closed and nothing in between.
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

    /// Resolves when no file below `dir` is open.
    pub(crate) async fn closed(&self, dir: &Path) {
        for slot in self.below(dir) {
            let _closed = slot.file.acquire().await;
        }
    }

    /// Forgets what is unfinished of the files below `dir`, which are gone: what is made there from now on has nothing to do with them. Waits for
    /// those that are being opened.
    pub(crate) async fn forget(&self, dir: &Path) {
        for slot in self.below(dir) {
            slot.known.lock().await.unfinished = None;
        }
    }

    /// Number of files that are open or being closed.
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
    /// Returns whether the file is open, locked, or has an unfinished replacement.
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
    async fn what_failed_is_done_before_the_file_is_opened_and_nobody_waits_for_it() {
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
        // Others come and go: it is not forgotten.
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
    async fn what_failed_is_forgotten_with_the_file() {
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
    async fn a_store_is_not_given_to_anyone_after_its_file_has_failed() {
        let (files, path) = (OpenFiles::<u32>::default(), Path::new("a"));
        let (old, _) = files.get(path, async |_, _| Ok::<_, Infallible>(Arc::new(1))).await.unwrap();
        files.hold(path).await.fail(Unfinished::new(|| Ok(())));
        let (new, was_open) = files.get(path, async |_, _| Ok::<_, Infallible>(Arc::new(2))).await.unwrap();
        assert_eq!((*old, *new, was_open), (1, 2, false));
    }
}
