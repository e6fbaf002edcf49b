//! The traces of recent requests, which connect log records with traces.
//!
//! Events name only their request. The trace of a request is known when the request has ended, usually before the batch
//! with its log records is sent. Requests whose trace is not exported have no entry, so a log record never refers to a
//! trace that the collector does not have.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use isomer_telemetry::{RequestId, TraceId};

/// The maximum number of requests. The oldest is forgotten first.
const REQUESTS_MAX: usize = 4096;

/// The traces of the requests that ended last.
#[derive(Default)]
pub(crate) struct RecentTraces(Mutex<TraceTable>);

#[derive(Default)]
struct TraceTable {
    traces: HashMap<RequestId, TraceId>,
    /// The requests in the order in which they ended.
    order: VecDeque<RequestId>,
}

impl RecentTraces {
    /// Adds a request that has ended. Does nothing if another thread uses the table, so that no request waits.
    pub(crate) fn add(&self, request: RequestId, trace: TraceId) {
        let Ok(mut table) = self.0.try_lock() else { return };
        if table.traces.insert(request, trace).is_some() {
            return;
        }
        table.order.push_back(request);
        if table.order.len() > REQUESTS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.traces.remove(&oldest);
        }
    }

    /// Returns the trace of a request, if it is known.
    pub(crate) fn get(&self, request: RequestId) -> Option<TraceId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).traces.get(&request).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let recent = RecentTraces::default();
        let request = |number: usize| RequestId::from_raw(number as u64 + 1).unwrap();
        let trace = TraceId::from_raw(7).unwrap();
        for number in 0..=REQUESTS_MAX {
            recent.add(request(number), trace);
            recent.add(request(number), trace);
        }
        assert_eq!((recent.get(request(0)), recent.get(request(1))), (None, Some(trace)));
    }
}
