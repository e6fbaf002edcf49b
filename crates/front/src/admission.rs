//! How many requests a tenant may have in flight, and how fast they may come. Decided before a request costs anything.
//!
//! A limit of `u32::MAX` is none: then requests of several threads do not even meet at the bucket's lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::door::Refusal;

/// What a tenant's requests may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Requests in flight.
    pub concurrent: u32,
    /// Requests a second, in the long run.
    pub per_second: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// A tenant's requests: a counter of those in flight and a token bucket.
#[derive(Debug)]
pub struct Admission {
    concurrent_max: AtomicU32,
    in_flight: AtomicU32,
    /// Is there no rate to keep to?
    any_rate: AtomicBool,
    bucket: Mutex<Bucket>,
    requests: AtomicU64,
    refused_concurrent: AtomicU64,
    refused_rate: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

/// One request's place. Dropping it gives the place back.
#[derive(Debug)]
pub struct Place(Option<Arc<Admission>>);

impl Place {
    /// One among as many as come: nothing is counted.
    #[must_use]
    pub fn uncounted() -> Self {
        Self(None)
    }
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdmissionCounts {
    /// Requests in flight now.
    pub in_flight: u32,
    /// All that came.
    pub requests: u64,
    /// Those that were refused since too many were in flight.
    pub refused_concurrent: u64,
    /// Those that were refused since they came too fast.
    pub refused_rate: u64,
}

impl Admission {
    /// With a full bucket.
    #[must_use]
    pub fn new(limits: AdmissionLimits, now: Instant) -> Arc<Self> {
        let burst = f64::from(limits.burst.max(1));
        Arc::new(Self {
            concurrent_max: AtomicU32::new(limits.concurrent),
            in_flight: AtomicU32::new(0),
            any_rate: AtomicBool::new(limits.per_second == u32::MAX),
            bucket: Mutex::new(Bucket { per_second: f64::from(limits.per_second), burst, tokens: burst, at: now }),
            requests: AtomicU64::new(0),
            refused_concurrent: AtomicU64::new(0),
            refused_rate: AtomicU64::new(0),
        })
    }

    /// Other limits from now on. Requests in flight stay.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        self.concurrent_max.store(limits.concurrent, Ordering::Relaxed);
        self.any_rate.store(limits.per_second == u32::MAX, Ordering::Relaxed);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.per_second = f64::from(limits.per_second);
        bucket.burst = f64::from(limits.burst.max(1));
        bucket.tokens = bucket.tokens.min(bucket.burst);
    }

    /// A place for a request that comes at `now`.
    ///
    /// # Errors
    /// [`Refusal::Concurrency`] or [`Refusal::Rate`].
    pub fn enter(self: &Arc<Self>, now: Instant) -> Result<Place, Refusal> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place(Some(self.clone()));
        // Whoever comes in beside one who is refused may be refused for it; nobody is let in for it.
        if before >= self.concurrent_max.load(Ordering::Relaxed) {
            self.refused_concurrent.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Concurrency);
        }
        if self.any_rate.load(Ordering::Relaxed) {
            return Ok(place);
        }
        if let Err(retry_after) = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            self.refused_rate.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Rate { retry_after });
        }
        Ok(place)
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> AdmissionCounts {
        AdmissionCounts {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            refused_concurrent: self.refused_concurrent.load(Ordering::Relaxed),
            refused_rate: self.refused_rate.load(Ordering::Relaxed),
        }
    }
}

impl Bucket {
    /// Takes one token, or says how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A rate of 0 never has one: a long time says so well enough.
        let seconds = (1.0 - self.tokens) / self.per_second.max(1e-4);
        Err(Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AdmissionLimits = AdmissionLimits { concurrent: 2, per_second: 10, burst: 3 };

    #[test]
    fn places_come_back() {
        let now = Instant::now();
        let admission = Admission::new(LIMITS, now);
        let first = admission.enter(now).unwrap();
        let _second = admission.enter(now).unwrap();
        assert_eq!(admission.enter(now).unwrap_err(), Refusal::Concurrency);
        drop(first);
        assert!(admission.enter(now).is_ok());
        let counts = admission.counts();
        assert_eq!((counts.in_flight, counts.requests, counts.refused_concurrent), (1, 4, 1));
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let now = Instant::now();
        let admission = Admission::new(LIMITS, now);
        for _ in 0..3 {
            drop(admission.enter(now).unwrap());
        }
        assert_eq!(admission.enter(now).unwrap_err(), Refusal::Rate { retry_after: Duration::from_millis(100) });
        assert!(admission.enter(now + Duration::from_millis(100)).is_ok());
        assert_eq!(admission.counts().refused_rate, 1);
    }

    #[test]
    fn without_a_rate_all_come_in_and_a_rate_may_be_set() {
        let now = Instant::now();
        let admission = Admission::new(AdmissionLimits { concurrent: u32::MAX, per_second: u32::MAX, burst: 1 }, now);
        for _ in 0..10 {
            drop(admission.enter(now).unwrap());
        }
        admission.set_limits(LIMITS);
        assert!(admission.enter(now).is_ok());
        assert!(matches!(admission.enter(now), Err(Refusal::Rate { .. })));
    }
}
