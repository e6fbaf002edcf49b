//! Counters and gauges.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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
    /// Adds `number`, which may be negative.
    pub fn add(&self, number: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + number).to_bits());
        let _always_ok = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// Replaces the value.
    pub fn set(&self, number: f64) {
        self.0.store(number.to_bits(), Ordering::Relaxed);
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
