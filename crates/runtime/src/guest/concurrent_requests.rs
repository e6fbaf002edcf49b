//! The requests that an instance serves at the same time (`concurrency` above 1).

use std::collections::HashMap;
use std::sync::Arc;

use isomer_telemetry::RequestId;
use wasmtime::component::GuestTaskId;

use super::scope::RequestScope;
use super::signals::ResponseSignals;

/// The requests that an instance serves at the same time; empty if it serves one request at a time.
#[derive(Default)]
pub(crate) struct ConcurrentRequests(HashMap<GuestTaskId, ConcurrentRequest>);

/// One of the requests that an instance serves at the same time.
pub(crate) struct ConcurrentRequest {
    pub(crate) scope: RequestScope,
    /// The component whose handler serves the request.
    pub(crate) component: Arc<str>,
    /// The signals of the request, which contain its time limit.
    pub(crate) signals: Arc<ResponseSignals>,
}

impl ConcurrentRequests {
    /// Adds a request, whose handler runs in `task`.
    pub(crate) fn insert(&mut self, task: GuestTaskId, request: ConcurrentRequest) {
        self.0.insert(task, request);
    }

    /// Removes the request `id`, whose handler ran in `task`. Returns whether the request was found. If the task ended
    /// earlier than the request, the engine may have given the task's number to the task of another request: that request
    /// is not removed.
    pub(crate) fn remove(&mut self, task: GuestTaskId, id: RequestId) -> bool {
        let is_found = self.0.get(&task).is_some_and(|request| request.scope.id() == Some(id));
        if is_found {
            self.0.remove(&task);
        }
        is_found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, task: GuestTaskId) -> Option<&ConcurrentRequest> {
        self.0.get(&task)
    }
}
