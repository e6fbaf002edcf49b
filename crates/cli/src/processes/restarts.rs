//! When a process that died is started again, and when that is given up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deaths that are answered with a new start within [`WINDOW`]; one more is the end of the app.
pub(crate) const RESTARTS_MAX: usize = 8;

/// How far back deaths count.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// How long the first restart waits; each further one in the window waits twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// The longest that one waits.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The deaths of one member.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    deaths: VecDeque<Instant>,
}

impl Restarts {
    /// It died: how long to wait with the next start; `None` where it died too often.
    pub(crate) fn after_death(&mut self, now: Instant) -> Option<Duration> {
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) > WINDOW) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        if self.deaths.len() > RESTARTS_MAX {
            return None;
        }
        let doublings = u32::try_from(self.deaths.len() - 1).unwrap_or(u32::MAX);
        Some(PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_the_bound_on_restarts_holds() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let pauses: Vec<_> = (0..RESTARTS_MAX).map(|_| restarts.after_death(now).map(|it| it.as_millis())).collect();
        let expected = [50, 100, 200, 400, 800, 1600, 3200, 5000].map(Some);
        assert_eq!(pauses, expected);
        assert_eq!(restarts.after_death(now), None);
    }

    #[test]
    fn deaths_long_ago_do_not_count() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        for _ in 0..RESTARTS_MAX * 10 {
            assert_eq!(restarts.after_death(now), Some(PAUSE_FIRST));
            now += WINDOW + Duration::from_millis(1);
        }
    }
}
