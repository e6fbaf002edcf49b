//! Which files of stores are open: each at most once in a process, and again only after it was closed.
//!
//! A store is found by its file. Its last handle may be dropped anywhere; the file is then closed on a thread of the pool, and
//! whoever opens the store meanwhile waits for that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::pool::locked;

/// Slots that may be unused before they are looked through.
const UNUSED_SLOTS_MAX: usize = 64;

/// The open files of stores of the kind `T`.
pub(crate) struct OpenFiles<T> {
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    of_files: HashMap<PathBuf, Arc<Slot<T>>>,
    look_through_at: usize,
}

struct Slot<T> {
    /// Held while the file is opened.
    store: Arc<tokio::sync::Mutex<Weak<T>>>,
    /// Taken by whoever has the file open, until it is closed.
    file: Arc<Semaphore>,
}

/// The right to have a file open. Drop it after the file.
pub(crate) struct OpenPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Keeps the file from being opened while this lives. Handles that are open stay open.
pub(crate) struct Held<T> {
    /// The store, if it is open.
    pub(crate) store: Option<Arc<T>>,
    _slot: OwnedMutexGuard<Weak<T>>,
    /// Taken where the file is not open.
    _closed: Option<OwnedSemaphorePermit>,
}

impl OpenPermit {
    /// Of something that isn't a file of the data directory.
    pub(crate) fn of_nothing() -> Self {
        Self { _permit: None }
    }
}

impl<T> Default for OpenFiles<T> {
    fn default() -> Self {
        Self { slots: Mutex::new(Slots { of_files: HashMap::new(), look_through_at: UNUSED_SLOTS_MAX }) }
    }
}

impl<T> OpenFiles<T> {
    /// The store of `path`: the open one with `true`, or what `open` makes, after the file was closed by whoever had it before.
    pub(crate) async fn get<E>(
        &self,
        path: &Path,
        open: impl AsyncFnOnce(OpenPermit) -> Result<Arc<T>, E>,
    ) -> Result<(Arc<T>, bool), E> {
        let slot = self.slot(path);
        let mut store = slot.store.lock().await;
        if let Some(store) = store.upgrade() {
            return Ok((store, true));
        }
        let permit = slot.file.clone().acquire_owned().await.expect("the semaphore is never closed");
        let opened = open(OpenPermit { _permit: Some(permit) }).await?;
        *store = Arc::downgrade(&opened);
        Ok((opened, false))
    }

    /// Keeps everybody from opening the file `path`, once it is open or closed and nothing in between.
    pub(crate) async fn hold(&self, path: &Path) -> Held<T> {
        let slot = self.slot(path);
        let _slot = slot.store.clone().lock_owned().await;
        let store = _slot.upgrade();
        let _closed = match store {
            None => Some(slot.file.clone().acquire_owned().await.expect("the semaphore is never closed")),
            Some(_) => None,
        };
        Held { store, _slot, _closed }
    }

    /// Resolves when no file below `dir` is open.
    pub(crate) async fn closed(&self, dir: &Path) {
        let below: Vec<_> = {
            let slots = locked(&self.slots);
            slots.of_files.iter().filter(|(path, _)| path.starts_with(dir)).map(|(_, slot)| slot.clone()).collect()
        };
        for slot in below {
            let _closed = slot.file.acquire().await;
        }
    }

    /// Number of files that are open or being closed.
    pub(crate) fn open(&self) -> usize {
        locked(&self.slots).of_files.values().filter(|slot| slot.file.available_permits() == 0).count()
    }

    fn slot(&self, path: &Path) -> Arc<Slot<T>> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.of_files.get(path) {
            return slot.clone();
        }
        if slots.of_files.len() >= slots.look_through_at {
            // Nobody has the file open, and nobody is about to.
            slots.of_files.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.file.available_permits() == 0);
            slots.look_through_at = 2 * slots.of_files.len() + UNUSED_SLOTS_MAX;
        }
        let slot = Slot { store: Arc::default(), file: Arc::new(Semaphore::new(1)) };
        let slot = Arc::new(slot);
        slots.of_files.insert(path.to_owned(), slot.clone());
        slot
    }
}
