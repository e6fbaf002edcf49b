//! The rate at which the apps of one tenant may record traces, so that one tenant does not keep the disk busy.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time in which an empty budget becomes full. So a tenant with a full budget may record as many bytes at once as
/// it may otherwise record in this time.
const BURST: Duration = Duration::from_secs(8);

/// The bytes that a tenant may still record.
#[derive(Debug, Default)]
pub(crate) struct RecordBudget(Mutex<Option<BudgetState>>);

#[derive(Debug)]
struct BudgetState {
    bytes: u64,
    /// The time at which `bytes` was computed.
    at: Instant,
}

impl RecordBudget {
    /// Takes `bytes` from the budget at the time `now`, if the budget has so many. It grows by `per_second` bytes each
    /// second.
    pub(crate) fn take(&self, bytes: usize, per_second: u64, now: Instant) -> bool {
        if per_second == u64::MAX {
            return true;
        }
        let bytes_max = per_second.saturating_mul(BURST.as_secs());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.get_or_insert(BudgetState { bytes: bytes_max, at: now });
        let elapsed = u64::try_from(now.saturating_duration_since(state.at).as_micros()).unwrap_or(u64::MAX);
        let added = elapsed.saturating_mul(per_second) / 1_000_000;
        state.bytes = state.bytes.saturating_add(added).min(bytes_max);
        // Only whole bytes are added. `at` advances only by the time in which these bytes accrued, so that the
        // remaining time counts in the next call.
        state.at += Duration::from_micros(added.saturating_mul(1_000_000) / per_second.max(1));
        let rest = state.bytes.checked_sub(bytes as u64);
        state.bytes = rest.unwrap_or(state.bytes);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fills_with_time() {
        let (budget, start) = (RecordBudget::default(), Instant::now());
        let take = |bytes, at_ms| budget.take(bytes, 1000, start + Duration::from_millis(at_ms));
        assert!(take(8000, 0) && !take(1, 0));
        assert!(take(500, 500) && !take(1, 500));
        // Even if `take` is called often, no fraction of a byte is lost by rounding.
        let taken = (501..=600).map(|at_ms| u32::from(take(1, at_ms))).sum::<u32>();
        assert_eq!(taken, 100);
        assert!(!take(8001, 1_000_000) && take(8000, 1_000_000) && !take(1, 1_000_000));
    }

    #[test]
    fn a_budget_can_be_unlimited() {
        assert!(RecordBudget::default().take(usize::MAX, u64::MAX, Instant::now()));
    }
}
