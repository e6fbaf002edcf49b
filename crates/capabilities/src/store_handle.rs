//! A handle of a store. The handle of a revision that serves requests refers to the store itself. The handle of a
//! candidate revision refers to the store until the first write, and then to a copy.
//!
//! The writes of a candidate revision must not reach the app's store before the candidate takes over. So the candidate
//! reads from the store until its first write. The first write makes a copy, and all later operations use the copy.

use std::sync::Arc;

use tokio::sync::OnceCell;

/// Makes the copy of a store `T` to which a candidate writes.
pub(crate) trait StoreCopier<T>: Send + Sync {
    /// The reason why a store cannot be copied.
    type Error;

    /// Copies `store`, and opens the copy.
    fn copy(&self, store: &Arc<T>) -> impl Future<Output = Result<Arc<T>, Self::Error>> + Send;
}

/// A handle of a store. All clones of a handle refer to the same store and, if the handle belongs to a candidate, to
/// the same copy of the store.
pub(crate) struct StoreHandle<T, C> {
    store: Arc<T>,
    candidate: Option<Arc<CandidateCopy<T, C>>>,
}

struct CandidateCopy<T, C> {
    copier: C,
    copy: OnceCell<Arc<T>>,
}

impl<T, C: StoreCopier<T>> StoreHandle<T, C> {
    /// Creates a handle for a revision that serves requests.
    pub(crate) fn serving(store: Arc<T>) -> Self {
        Self { store, candidate: None }
    }

    /// Creates a handle for a candidate revision.
    pub(crate) fn candidate(store: Arc<T>, copier: C) -> Self {
        Self { store, candidate: Some(Arc::new(CandidateCopy { copier, copy: OnceCell::new() })) }
    }

    /// Returns the app's own store, even if the handle belongs to a candidate revision that has made a copy of it.
    pub(crate) fn store(&self) -> &Arc<T> {
        &self.store
    }

    /// Returns the store to read from: the candidate's copy, if this is the handle of a candidate revision that already
    /// has a copy; otherwise the app's store.
    pub(crate) fn for_reading(&self) -> Arc<T> {
        self.candidate.as_ref().and_then(|candidate| candidate.copy.get()).unwrap_or(&self.store).clone()
    }

    /// Returns the store to write to. For a candidate revision, this is the copy, which the first call makes.
    ///
    /// # Errors
    /// If the copy cannot be made.
    pub(crate) async fn for_writing(&self) -> Result<Arc<T>, C::Error> {
        match &self.candidate {
            None => Ok(self.store.clone()),
            Some(candidate) => Ok(candidate.copy.get_or_try_init(|| candidate.copier.copy(&self.store)).await?.clone()),
        }
    }
}

impl<T, C> Clone for StoreHandle<T, C> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), candidate: self.candidate.clone() }
    }
}
