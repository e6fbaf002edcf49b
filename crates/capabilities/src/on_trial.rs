//! A store as a revision has it: the store itself; or, for a revision on trial, the store to read from and a copy to write to.
//!
//! Before it takes over, nothing that a revision on trial writes may be in the store. So what it reads comes from the store until it
//! writes first; then a copy is made, and all goes there from then on.

use std::sync::Arc;

use tokio::sync::OnceCell;

/// Makes the copy that a trial of a store `T` writes to.
pub(crate) trait Copier<T>: Send + Sync {
    /// Why there is none.
    type Error;

    /// Copies `store`, and opens the copy.
    fn copy(&self, store: &Arc<T>) -> impl Future<Output = Result<Arc<T>, Self::Error>> + Send;
}

/// A handle of a store. Clones are handles of the same one, and of the same copy.
pub(crate) struct OnTrial<T, C> {
    store: Arc<T>,
    trial: Option<Arc<Trial<T, C>>>,
}

struct Trial<T, C> {
    copier: C,
    copy: OnceCell<Arc<T>>,
}

impl<T, C: Copier<T>> OnTrial<T, C> {
    /// For a revision that serves.
    pub(crate) fn serving(store: Arc<T>) -> Self {
        Self { store, trial: None }
    }

    /// For a revision on trial.
    pub(crate) fn trying(store: Arc<T>, copier: C) -> Self {
        Self { store, trial: Some(Arc::new(Trial { copier, copy: OnceCell::new() })) }
    }

    /// The store itself.
    pub(crate) fn store(&self) -> &Arc<T> {
        &self.store
    }

    /// What is read.
    pub(crate) fn reading(&self) -> Arc<T> {
        self.trial.as_ref().and_then(|trial| trial.copy.get()).unwrap_or(&self.store).clone()
    }

    /// What is written.
    ///
    /// # Errors
    /// When there is no copy yet and none can be made.
    pub(crate) async fn writing(&self) -> Result<Arc<T>, C::Error> {
        match &self.trial {
            None => Ok(self.store.clone()),
            Some(trial) => Ok(trial.copy.get_or_try_init(|| trial.copier.copy(&self.store)).await?.clone()),
        }
    }
}

impl<T, C> Clone for OnTrial<T, C> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), trial: self.trial.clone() }
    }
}
