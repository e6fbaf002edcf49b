//! When a process that ended unexpectedly is started again, and when the supervisor gives up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The maximum number of restarts of a member within [`WINDOW`]. When the member exits once more, the supervisor gives
/// up.
pub(crate) const RESTARTS_MAX: usize = 8;

/// The age at which an unexpected exit is no longer counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The pause before the first restart. Each further pause within [`WINDOW`] is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// The maximum pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The times of the recent unexpected exits of one member.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    ends: VecDeque<Instant>,
}

impl Restarts {
    /// Counts an unexpected exit. Returns the pause before the next start, or `None` if there were too many unexpected
    /// exits within [`WINDOW`].
    pub(crate) fn after_end(&mut self, now: Instant) -> Option<Duration> {
        while self.ends.front().is_some_and(|end| now.duration_since(*end) > WINDOW) {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
        if self.ends.len() > RESTARTS_MAX {
            return None;
        }
        let doublings = u32::try_from(self.ends.len() - 1).unwrap_or(u32::MAX);
        Some(PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_restarts_are_limited() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let pauses: Vec<_> = (0..RESTARTS_MAX).map(|_| restarts.after_end(now).map(|it| it.as_millis())).collect();
        let expected = [50, 100, 200, 400, 800, 1600, 3200, 5000].map(Some);
        assert_eq!(pauses, expected);
        assert_eq!(restarts.after_end(now), None);
    }

    #[test]
    fn ends_outside_the_window_do_not_count() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        for _ in 0..RESTARTS_MAX * 10 {
            assert_eq!(restarts.after_end(now), Some(PAUSE_FIRST));
            now += WINDOW + Duration::from_millis(1);
        }
    }
}
