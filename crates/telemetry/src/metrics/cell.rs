//! Counters and gauges.
//!
//! Guests choose some of the numbers, so sums are bounded: JSON has no infinity and no NaN.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The maximum magnitude of a number with a fraction. Clients can add the numbers of many series, and convert them to
/// another unit, without an infinite result.
pub(crate) const NUMBER_MAX: f64 = 1e200;

/// Returns the number, or the nearest number whose magnitude is at most [`NUMBER_MAX`].
pub(crate) fn bounded(number: f64) -> f64 {
    number.clamp(-NUMBER_MAX, NUMBER_MAX)
}

/// A total that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A value that increases and decreases.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// A number with a fraction: a total, or a value that increases and decreases.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds `number`, which may be negative. Ignores NaN.
    pub fn add(&self, number: f64) {
        if number.is_nan() {
            return;
        }
        let sum = |bits| Some(bounded(f64::from_bits(bits) + number).to_bits());
        let _always_ok = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// Replaces the value. Ignores NaN.
    pub fn set(&self, number: f64) {
        if !number.is_nan() {
            self.0.store(bounded(number).to_bits(), Ordering::Relaxed);
        }
    }

    /// Returns the value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Counter {
    /// Returns a counter that starts at 0. `const`, for counters of the whole process.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the total.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds `count`, which may be negative.
    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_finite() {
        let number = Number::default();
        for (added, expected) in [
            (f64::MAX, NUMBER_MAX),
            (f64::INFINITY, NUMBER_MAX),
            (f64::NEG_INFINITY, -NUMBER_MAX),
            (f64::NAN, -NUMBER_MAX),
        ] {
            number.add(added);
            assert_eq!(number.get().to_bits(), expected.to_bits(), "{added}");
        }
        for (replacement, expected) in [(f64::INFINITY, NUMBER_MAX), (2.5, 2.5), (f64::NAN, 2.5)] {
            number.set(replacement);
            assert_eq!(number.get().to_bits(), expected.to_bits(), "{replacement}");
        }
    }
}
