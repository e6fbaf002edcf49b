//! One app's traces: recording and reading them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use isomer_api::{Trace, TracePage, TraceQuery};
use isomer_telemetry::{TraceFragment, TraceSink};

use crate::assembly::assemble;
use crate::error::TraceStoreError;
use crate::filter::TraceFilter;
use crate::follower::{self, FollowedTraces, Follower};
use crate::key::TraceKey;
use crate::queue::{OpenStore, TraceDrops};
use crate::search::{find, search};

/// The traces of one app. Cheap to clone. Recording a trace never blocks.
#[derive(Clone)]
pub struct TraceStore(pub(crate) Arc<OpenStore>);

/// Records the traces of another process of the app. Cheap to clone. Recording a trace never blocks.
#[derive(Debug, Clone)]
pub struct ProcessTraces {
    store: TraceStore,
    process: Arc<str>,
}

impl TraceStore {
    /// Returns the traces that match `query`, the newest first, including everything that was recorded before this call.
    /// Blocks while it reads files.
    ///
    /// # Errors
    /// If the query is not valid, the store's files cannot be read, or the store is closed.
    pub fn query(&self, query: &TraceQuery) -> Result<TracePage, TraceStoreError> {
        let filter = TraceFilter::new(query)?;
        let segments = self.0.queue.files(&self.0)?;
        search(&self.0.folder, segments, &filter, self.0.queue.limits.query_bytes).map_err(|source| self.failed(source))
    }

    /// Returns one trace with the spans of all processes, or `None` if the store does not contain it. Blocks while it
    /// reads files.
    ///
    /// # Errors
    /// If the store's files cannot be read, or the store is closed.
    pub fn get(&self, key: TraceKey) -> Result<Option<Trace>, TraceStoreError> {
        let segments = self.0.queue.files(&self.0)?;
        let found = find(&self.0.folder, segments, key, self.0.queue.limits.find_bytes);
        let (fragments, stopped_early) = found.map_err(|source| self.failed(source))?;
        Ok(assemble(fragments, stopped_early))
    }

    /// Returns a stream of the traces that are recorded from now on.
    ///
    /// # Errors
    /// If the store is closed, or has the maximum number of followers.
    pub fn follow(&self) -> Result<FollowedTraces, TraceStoreError> {
        let (follower, followed) = follower::pair(self.0.clone());
        let mut followers = self.0.lock_followers();
        if self.0.is_closed.load(Ordering::Acquire) {
            return Err(TraceStoreError::Closed);
        }
        followers.retain(Follower::is_connected);
        let most = self.0.queue.limits.followers;
        if followers.len() >= most {
            return Err(TraceStoreError::Followers { most });
        }
        followers.push(follower);
        Ok(followed)
    }

    /// Returns the sink for the traces that the process `process` of the same app has recorded.
    #[must_use]
    pub fn of_process(&self, process: impl Into<Arc<str>>) -> ProcessTraces {
        ProcessTraces { store: self.clone(), process: process.into() }
    }

    /// Returns the numbers of fragments that were dropped since the store was opened.
    pub fn drops(&self) -> TraceDrops {
        self.0.drops.get()
    }

    /// Waits until all traces that were recorded before this call are written.
    pub fn flush(&self) {
        // The result is an error if the store is closed. Then there is nothing to write.
        let _ = self.0.queue.files(&self.0);
    }

    /// Closes the store: later traces are dropped, and the streams of followers end. Blocks until the last write to the
    /// store's folder has ended.
    pub fn close(&self) {
        self.0.close();
        self.0.queue.forget(vec![self.0.folder.to_path_buf()]);
    }

    fn push(&self, fragment: TraceFragment, process: Option<Arc<str>>) {
        let store = &self.0;
        if !store.is_closed.load(Ordering::Acquire) && !store.queue.push(store, fragment, process) {
            for drops in [&store.drops, &store.queue.drops] {
                drops.too_fast.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn failed(&self, source: io::Error) -> TraceStoreError {
        TraceStoreError::Read { folder: self.0.folder.to_path_buf(), source }
    }
}

impl TraceSink for TraceStore {
    fn record(&self, fragment: TraceFragment) {
        self.push(fragment, None);
    }
}

impl TraceSink for ProcessTraces {
    fn record(&self, fragment: TraceFragment) {
        self.store.push(fragment, Some(self.process.clone()));
    }
}

impl std::fmt::Debug for TraceStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceStore").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}
