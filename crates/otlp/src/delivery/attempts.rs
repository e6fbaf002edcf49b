//! Decides what follows an attempt to send a batch. A pure state machine: the caller sends, waits and measures time.

use std::time::Duration;

use isomer_transport::Backoff;

use crate::statistics::DropReason;

/// The pauses between attempts, if the collector requests no pause.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };

/// The maximum pause that a collector can request with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The maximum number of attempts to send a batch.
const ATTEMPTS_MAX: u32 = 16;

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The collector has accepted the batch, except for `rejected` records.
    Accepted {
        /// The number of records that were not accepted.
        rejected: usize,
        /// Why the collector rejected records, or its warning if it rejected none.
        message: String,
    },
    /// The attempt failed for a reason that may be temporary. `after` is the pause that the collector requested.
    Failed {
        /// The reason.
        reason: String,
        /// The pause that the collector requested.
        after: Option<Duration>,
    },
    /// The collector refused the batch as too large.
    TooLarge(String),
    /// The collector refused the batch, and would refuse it again.
    Refused(String),
}

/// What the sender does after an attempt to send a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The batch was accepted, except for `rejected` records.
    Done { rejected: usize, message: String },
    /// Wait, and send the batch again.
    Retry(Duration),
    /// Send the batch in two parts.
    Split,
    /// Drop the batch.
    Drop(DropReason, String),
}

/// The attempts to send one batch.
#[derive(Debug)]
pub(super) struct Attempts {
    /// The time after which no further attempt is made.
    time_max: Duration,
    failures: u32,
}

impl Attempts {
    pub(super) fn new(time_max: Duration) -> Self {
        Self { time_max, failures: 0 }
    }

    /// Decides what the sender does after an attempt that ended with `outcome`. `elapsed` is the time since the first
    /// attempt to send this batch began. `spread` adds jitter to the pause before the next attempt.
    pub(super) fn next(
        &mut self,
        outcome: Outcome,
        elapsed: Duration,
        can_split: bool,
        is_stopping: bool,
        spread: impl FnOnce(Duration) -> Duration,
    ) -> Step {
        let (reason, after) = match outcome {
            Outcome::Accepted { rejected, message } => return Step::Done { rejected, message },
            Outcome::TooLarge(_) if can_split => return Step::Split,
            Outcome::TooLarge(reason) => return Step::Drop(DropReason::TooLarge, reason),
            Outcome::Refused(reason) => return Step::Drop(DropReason::Refused, reason),
            Outcome::Failed { reason, after } => (reason, after),
        };
        self.failures += 1;
        if is_stopping {
            return Step::Drop(DropReason::Shutdown, reason);
        }
        if self.failures >= ATTEMPTS_MAX {
            return Step::Drop(DropReason::Unreachable, reason);
        }
        match after {
            // A collector that requests a pause is reachable and expects to accept the batch later, so the time limit
            // of all attempts does not apply.
            Some(after) => Step::Retry(after.min(RETRY_AFTER_MAX)),
            None => {
                let pause = spread(BACKOFF.pause(self.failures));
                if elapsed + pause > self.time_max {
                    return Step::Drop(DropReason::Unreachable, reason);
                }
                Step::Retry(pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(after: Option<u64>) -> Outcome {
        Outcome::Failed { reason: "down".into(), after: after.map(Duration::from_secs) }
    }

    #[test]
    fn a_failed_batch_is_sent_again_until_the_time_has_passed() {
        let mut attempts = Attempts::new(Duration::from_secs(30));
        let mut elapsed = Duration::ZERO;
        let mut pauses = Vec::new();
        while let Step::Retry(pause) = attempts.next(failed(None), elapsed, true, false, |pause| pause) {
            elapsed += pause;
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8]);
        let last = attempts.next(failed(None), elapsed, true, false, |pause| pause);
        assert_eq!(last, Step::Drop(DropReason::Unreachable, "down".into()));
    }

    #[test]
    fn the_pause_that_a_collector_requests_is_honoured_and_bounded() {
        let mut attempts = Attempts::new(Duration::from_secs(1));
        let mut next = |after| attempts.next(failed(Some(after)), Duration::from_secs(9), true, false, |pause| pause);
        assert_eq!(next(60), Step::Retry(Duration::from_secs(60)));
        assert_eq!(next(1 << 40), Step::Retry(RETRY_AFTER_MAX));
        let last = (0..ATTEMPTS_MAX).map(|_| next(0)).last();
        assert_eq!(last, Some(Step::Drop(DropReason::Unreachable, "down".into())));
    }

    #[test]
    fn other_failures_are_final() {
        let next = |outcome, can_split, is_stopping| {
            Attempts::new(Duration::MAX).next(outcome, Duration::ZERO, can_split, is_stopping, |pause| pause)
        };
        let large = || Outcome::TooLarge("413".into());
        assert_eq!(next(large(), true, false), Step::Split);
        assert_eq!(next(large(), false, false), Step::Drop(DropReason::TooLarge, "413".into()));
        assert_eq!(next(Outcome::Refused("400".into()), true, false), Step::Drop(DropReason::Refused, "400".into()));
        assert_eq!(next(failed(Some(1)), true, true), Step::Drop(DropReason::Shutdown, "down".into()));
    }
}
