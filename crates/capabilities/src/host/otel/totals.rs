//! The totals that a guest reported last, to find by how much each of them has increased.
//!
//! A guest reports totals since the start of its instance, while the platform adds up the totals of all instances.

use std::collections::HashMap;

use isomer_telemetry::metrics::GuestSeries;

/// The maximum number of totals that are remembered for one instance. Further totals are not counted.
const TOTALS_MAX: usize = 100;

/// The number of totals from which no further buckets of histograms are counted, so that they leave room for the other
/// totals.
const TOTALS_WITH_BUCKETS_MAX: usize = TOTALS_MAX / 2;

/// The totals that one instance has reported.
#[derive(Debug, Default)]
pub(super) struct ReportedTotals(HashMap<GuestSeries, f64>);

impl ReportedTotals {
    /// Replaces the total of a histogram's bucket like [`ReportedTotals::increase`]. Returns `None` if there are many
    /// totals.
    pub(super) fn increase_bucket(&mut self, series: &GuestSeries, total: f64) -> Option<f64> {
        let has_room = self.0.len() < TOTALS_WITH_BUCKETS_MAX || self.0.contains_key(series);
        has_room.then(|| self.increase(series, total))?
    }

    /// Replaces a total, and returns its increase. A total that is less than before has started again at 0. Returns
    /// `None` if there are too many totals.
    pub(super) fn increase(&mut self, series: &GuestSeries, total: f64) -> Option<f64> {
        if let Some(last) = self.0.get_mut(series) {
            let before = std::mem::replace(last, total);
            return Some(if total >= before { total - before } else { total });
        }
        if self.0.len() == TOTALS_MAX {
            return None;
        }
        self.0.insert(series.clone(), total);
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increases_are_differences_and_the_number_of_totals_is_bounded() {
        let mut totals = ReportedTotals::default();
        let series = |number: usize| GuestSeries::new(&format!("m{number}"), "", &[]).unwrap();
        let increases = [2.0, 5.0, 5.0, 1.0].map(|total| totals.increase(&series(0), total));
        assert_eq!(increases, [Some(2.0), Some(3.0), Some(0.0), Some(1.0)]);
        let counted = (0..2 * TOTALS_MAX).filter(|number| totals.increase(&series(*number), 1.0).is_some());
        assert_eq!(counted.count(), TOTALS_MAX);
    }

    #[test]
    fn buckets_leave_room_for_other_totals() {
        let mut totals = ReportedTotals::default();
        let series = |name: &str, number: usize| GuestSeries::new(&format!("{name}{number}"), "", &[]).unwrap();
        let buckets = (0..TOTALS_MAX).filter(|number| totals.increase_bucket(&series("b", *number), 1.0).is_some());
        assert_eq!(buckets.count(), TOTALS_WITH_BUCKETS_MAX);
        assert_eq!(totals.increase_bucket(&series("b", 0), 3.0), Some(2.0));
        assert_eq!(totals.increase(&series("m", 0), 1.0), Some(1.0));
    }
}
