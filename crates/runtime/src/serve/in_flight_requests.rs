//! The requests that one instance is serving at the same time: whether their deadlines have passed, and what outcome
//! each of them gets when the instance ends.
//!
//! This is a state machine without a clock, a lock or a task. `shared_instance` contains the task that uses it.

use std::collections::BTreeMap;
use std::time::Instant;

use isomer_telemetry::RequestId;

use crate::guest::TimeLimit;

/// The properties of a request that the state machine needs.
pub(super) trait RequestState {
    /// Returns the current time limit of the request. It may grow when the head of the response is recorded.
    fn until(&self) -> TimeLimit;

    /// Returns whether the request's guest waits for the client to read the response.
    fn waits_for_client(&self) -> bool;
}

/// The reason why the execution of an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// The execution was stopped because the deadline of a request passed while the guest was waiting, not computing.
    Late,
    /// The execution ended without an error, because no more requests can be sent to the instance.
    Returned,
    /// The guest was interrupted while it computed.
    Interrupted {
        /// Whether the account has no processor time left. If false, a deadline has passed.
        is_out_of_cpu: bool,
    },
    /// The guest trapped, or the account had no memory left for the instance.
    Trapped {
        /// Whether the account has no processor time left.
        is_out_of_cpu: bool,
    },
}

/// The outcome of a request that was in flight when the instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestEnd {
    /// The request's own deadline has passed.
    Deadline,
    /// The account has no processor time left.
    OutOfCpu,
    /// The guest trapped. The instance has one call stack for all requests, so the runtime cannot tell which request
    /// caused the trap. Every request gets this outcome.
    Trap,
    /// The request's own deadline has not passed, but the instance ended: because the deadline of another request
    /// passed, or because no more requests could be sent to the instance.
    InstanceLost,
}

/// The requests that an instance is serving.
#[derive(Debug)]
pub(super) struct InFlightRequests<R>(BTreeMap<RequestId, R>);

impl<R> Default for InFlightRequests<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: RequestState> InFlightRequests<R> {
    /// Adds a request that starts now. Returns whether it is the only request in flight.
    pub(super) fn begin(&mut self, id: RequestId, request: R) -> bool {
        self.0.insert(id, request);
        self.0.len() == 1
    }

    /// Removes a request that has ended normally.
    pub(super) fn end(&mut self, id: RequestId) {
        self.0.remove(&id);
    }

    /// Returns whether no request is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the instance must be stopped at `now` because the deadline of a request has passed. Ignores
    /// requests whose client does not read the response: the front door ends them, and the instance's other requests
    /// must not fail because of them.
    pub(super) fn must_stop(&self, now: Instant) -> bool {
        self.0.values().any(|request| request.until().deadline <= now && !request.waits_for_client())
    }

    /// Ends all requests in flight at `now`. Returns them in the order of their ids, each with its outcome.
    pub(super) fn end_all(self, run: RunEnd, now: Instant) -> impl Iterator<Item = (RequestId, R, RequestEnd)> {
        self.0.into_iter().map(move |(id, request)| {
            let is_late = request.until().deadline <= now;
            (id, request, end_of(run, is_late))
        })
    }
}

fn end_of(run: RunEnd, is_late: bool) -> RequestEnd {
    match run {
        RunEnd::Late | RunEnd::Returned | RunEnd::Interrupted { .. } if is_late => RequestEnd::Deadline,
        RunEnd::Interrupted { is_out_of_cpu: true } | RunEnd::Trapped { is_out_of_cpu: true } => RequestEnd::OutOfCpu,
        RunEnd::Interrupted { is_out_of_cpu: false } | RunEnd::Trapped { is_out_of_cpu: false } => RequestEnd::Trap,
        RunEnd::Late | RunEnd::Returned => RequestEnd::InstanceLost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    struct FakeRequest {
        deadline: Instant,
        waits_for_client: bool,
    }

    impl RequestState for FakeRequest {
        fn until(&self) -> TimeLimit {
            TimeLimit { deadline: self.deadline, allowed: Duration::from_secs(1) }
        }

        fn waits_for_client(&self) -> bool {
            self.waits_for_client
        }
    }

    fn id(number: u64) -> RequestId {
        RequestId::from_raw(number + 1).unwrap()
    }

    #[test]
    fn only_a_late_request_that_its_client_reads_stops_the_instance() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut requests = InFlightRequests::default();
        assert!(requests.begin(id(0), FakeRequest { deadline: at(10), waits_for_client: true }));
        assert!(!requests.begin(id(1), FakeRequest { deadline: at(20), waits_for_client: false }));
        assert!(!requests.must_stop(at(19)), "the instance is stopped for a late request whose client does not read");
        assert!(requests.must_stop(at(20)));
        requests.end(id(1));
        assert!(!requests.must_stop(at(60_000)) && !requests.is_empty());
        requests.end(id(0));
        assert!(requests.is_empty());
    }

    #[test]
    fn a_missed_deadline_fails_the_late_requests_and_the_others_lose_their_instance() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ends = |run| {
            let mut requests = InFlightRequests::default();
            requests.begin(id(0), FakeRequest { deadline: at(10), waits_for_client: false });
            requests.begin(id(1), FakeRequest { deadline: at(30), waits_for_client: false });
            requests.end_all(run, at(20)).map(|(_, _, end)| end).collect::<Vec<_>>()
        };
        assert_eq!(ends(RunEnd::Late), [RequestEnd::Deadline, RequestEnd::InstanceLost]);
        assert_eq!(ends(RunEnd::Returned), [RequestEnd::Deadline, RequestEnd::InstanceLost]);
        assert_eq!(ends(RunEnd::Interrupted { is_out_of_cpu: false }), [RequestEnd::Deadline, RequestEnd::Trap]);
        assert_eq!(ends(RunEnd::Interrupted { is_out_of_cpu: true }), [RequestEnd::Deadline, RequestEnd::OutOfCpu]);
        assert_eq!(ends(RunEnd::Trapped { is_out_of_cpu: false }), [RequestEnd::Trap, RequestEnd::Trap]);
        assert_eq!(ends(RunEnd::Trapped { is_out_of_cpu: true }), [RequestEnd::OutOfCpu, RequestEnd::OutOfCpu]);
    }

    fn run_end() -> impl Strategy<Value = RunEnd> {
        prop_oneof![
            Just(RunEnd::Late),
            Just(RunEnd::Returned),
            any::<bool>().prop_map(|is_out_of_cpu| RunEnd::Interrupted { is_out_of_cpu }),
            any::<bool>().prop_map(|is_out_of_cpu| RunEnd::Trapped { is_out_of_cpu }),
        ]
    }

    proptest! {
        /// In every order of starts and ends, each request ends exactly once, and if a late request makes the instance
        /// stop, that request gets the deadline as its outcome.
        #[test]
        fn every_request_ends_exactly_once(
            steps in prop::collection::vec((any::<bool>(), 0..8_u64, 0..100_u64, any::<bool>()), 0..60),
            run in run_end(),
            end_ms in 0..120_u64,
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let mut requests = InFlightRequests::default();
            let mut expected = BTreeMap::new();
            for (begins, number, deadline_ms, waits_for_client) in steps {
                if begins && !expected.contains_key(&id(number)) {
                    let request = FakeRequest { deadline: at(deadline_ms), waits_for_client };
                    prop_assert_eq!(requests.begin(id(number), request), expected.is_empty());
                    expected.insert(id(number), request);
                } else {
                    requests.end(id(number));
                    expected.remove(&id(number));
                }
                prop_assert_eq!(requests.is_empty(), expected.is_empty());
            }
            let now = at(end_ms);
            let stops = requests.must_stop(now);
            prop_assert_eq!(stops, expected.values().any(|one| one.deadline <= now && !one.waits_for_client));
            let ended: Vec<_> = requests.end_all(run, now).collect();
            prop_assert_eq!(
                ended.iter().map(|(id, ..)| *id).collect::<Vec<_>>(),
                expected.keys().copied().collect::<Vec<_>>()
            );
            if stops && run == RunEnd::Late {
                prop_assert!(ended.iter().any(|(.., end)| *end == RequestEnd::Deadline));
            }
            for (_, request, end) in ended {
                prop_assert!(end != RequestEnd::Deadline || request.deadline <= now);
                prop_assert!(end != RequestEnd::InstanceLost || request.deadline > now);
            }
        }
    }
}
