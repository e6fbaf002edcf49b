//! A store as a revision has it: the store itself; or, for a candidate revision, the store to read from and a copy to write to.
//!
//! Before it takes over, nothing that a candidate revision writes may be in the store. So what it reads comes from the store until it
//! writes first; then a copy is made, and all goes there from then on.

use std::sync::Arc;

use tokio::sync::OnceCell;

/// Makes the copy that a candidate of a store `T` writes to.
pub(crate) trait StoreCopier<T>: Send + Sync {
    /// Why there is none.
    type Error;

    /// Copies `store`, and opens the copy.
    fn copy(&self, store: &Arc<T>) -> impl Future<Output = Result<Arc<T>, Self::Error>> + Send;
}

/// A handle of a store. Clones are handles of the same one, and of the same copy.
pub(crate) struct StoreHandle<T, C> {
    store: Arc<T>,
    candidate: Option<Arc<CandidateCopy<T, C>>>,
}

struct CandidateCopy<T, C> {
    copier: C,
    copy: OnceCell<Arc<T>>,
}

impl<T, C: StoreCopier<T>> StoreHandle<T, C> {
    /// For a revision that serves.
    pub(crate) fn serving(store: Arc<T>) -> Self {
        Self { store, candidate: None }
    }

    /// For a candidate revision.
    pub(crate) fn candidate(store: Arc<T>, copier: C) -> Self {
        Self { store, candidate: Some(Arc::new(CandidateCopy { copier, copy: OnceCell::new() })) }
    }

    /// The store itself.
    pub(crate) fn store(&self) -> &Arc<T> {
        &self.store
    }

    /// What is read.
    pub(crate) fn reading(&self) -> Arc<T> {
        self.candidate.as_ref().and_then(|candidate| candidate.copy.get()).unwrap_or(&self.store).clone()
    }

    /// What is written.
    ///
    /// # Errors
    /// When there is no copy yet and none can be made.
    pub(crate) async fn writing(&self) -> Result<Arc<T>, C::Error> {
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
