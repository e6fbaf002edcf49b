//! Limits log messages about failures to one a minute.

use std::time::Duration;

use isomer_telemetry::{info, warn};
use tokio::time::Instant;

use super::Endpoint;
use crate::Signal;

/// The minimum time between two messages about failures.
const INTERVAL: Duration = Duration::from_secs(60);

/// The log of one signal's failures.
pub(super) struct FailureLog {
    signal: Signal,
    endpoint: Endpoint,
    logged_at: Option<Instant>,
    /// The number of dropped records at the last message.
    dropped: u64,
    /// Whether the last message was about a failure.
    is_failing: bool,
}

impl FailureLog {
    pub(super) fn new(signal: Signal, endpoint: Endpoint) -> Self {
        Self { signal, endpoint, logged_at: None, dropped: 0, is_failing: false }
    }

    /// Logs that an attempt failed for `reason`, unless a failure was logged less than a minute ago. `dropped` is the
    /// number of records that were dropped since the start.
    pub(super) fn failed(&mut self, reason: &str, dropped: u64) {
        if let Some(text) = self.failure(reason, dropped, Instant::now()) {
            warn!("{text}");
        }
    }

    /// Logs that the collector accepts records again, if a failure was logged before.
    pub(super) fn succeeded(&mut self, dropped: u64) {
        if self.recovery(dropped) {
            info!("the collector at {} accepts {} again", self.endpoint, self.signal);
        }
        // No request failed, but records were dropped because the queue was full.
        if dropped > self.dropped {
            self.failed("the collector is too slow", dropped);
        }
    }

    fn failure(&mut self, reason: &str, dropped: u64, now: Instant) -> Option<String> {
        if self.logged_at.is_some_and(|at| now - at < INTERVAL) {
            return None;
        }
        let (signal, endpoint, records) = (self.signal, &self.endpoint, self.signal.records());
        let text = match dropped - self.dropped {
            0 => format!("cannot export {signal} to {endpoint}: {reason}"),
            new => format!("cannot export {signal} to {endpoint}, and {new} {records} were dropped: {reason}"),
        };
        (self.logged_at, self.dropped, self.is_failing) = (Some(now), dropped, true);
        Some(text)
    }

    fn recovery(&mut self, dropped: u64) -> bool {
        std::mem::take(&mut self.is_failing) && dropped == self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_once_a_minute_with_the_number_of_dropped_records() {
        let mut log = FailureLog::new(Signal::Traces, Endpoint::parse("http://c/v1/traces?key=s3cret").unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.failure("down", 0, start).unwrap(), "cannot export traces to http://c/v1/traces: down");
        assert_eq!(log.failure("down", 7, at(59)), None);
        let text = log.failure("down", 9, at(60)).unwrap();
        assert_eq!(text, "cannot export traces to http://c/v1/traces, and 9 spans were dropped: down");
        assert!(log.recovery(9) && !log.recovery(9));
    }
}
