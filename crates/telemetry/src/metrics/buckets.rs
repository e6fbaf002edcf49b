//! The buckets of histograms: exponential, with the factor 2.

use std::time::Duration;

/// The bounds of a histogram's buckets. Each bound is twice the one before. A last bucket without a bound follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// The first bound in microseconds: a power of 2.
    first_us: u64,
    /// The number of bounds.
    bounds: usize,
}

impl Buckets {
    /// The buckets for requests and operations on stores: from 16 µs to 33.6 s.
    pub const REQUEST: Self = Self { first_us: 16, bounds: 22 };

    /// The buckets for calls across seams: from 1 µs to 16.8 s.
    pub const CALL: Self = Self { first_us: 1, bounds: 25 };

    /// Returns the number of bounds.
    pub fn bounds(self) -> usize {
        self.bounds
    }

    /// Returns the bound at `index` in seconds.
    #[expect(clippy::cast_precision_loss, reason = "bounds are less than 2⁵³ µs")]
    pub fn bound_s(self, index: usize) -> f64 {
        (self.first_us << index) as f64 / 1e6
    }

    /// Returns the index of the bucket for `duration`: the first one whose bound is not less.
    pub(crate) fn index(self, duration: Duration) -> usize {
        let us = u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        // The number of times that `first_us` must be doubled to reach `us`: the number of significant bits of (us - 1)
        // / first_us.
        let above = us.saturating_sub(1) >> self.first_us.trailing_zeros();
        ((u64::BITS - above.leading_zeros()) as usize).min(self.bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_belongs_to_the_first_bucket_whose_bound_is_not_less() {
        for buckets in [Buckets::REQUEST, Buckets::CALL] {
            for index in 0..buckets.bounds() {
                let bound = Duration::from_micros(buckets.first_us << index);
                assert!((buckets.bound_s(index) - bound.as_secs_f64()).abs() < 1e-12);
                assert_eq!(buckets.index(bound), index);
                assert_eq!(buckets.index(bound + Duration::from_nanos(1)), index + 1);
            }
            assert_eq!(buckets.index(Duration::ZERO), 0);
            assert_eq!(buckets.index(Duration::MAX), buckets.bounds());
        }
    }
}
