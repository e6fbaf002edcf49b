//! Limits a tenant's requests in flight and the rate of the tenant's requests. The limits are checked before any other
//! work for a request.
//!
//! A limit of `u32::MAX` means that there is no limit. If the rate is unlimited, requests do not take the lock of the
//! token bucket.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use isomer_front::Refusal;
use isomer_transport::{Limiter, Permit};

/// The limits of a tenant's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdmissionLimits {
    /// The maximum number of requests in flight.
    pub(super) concurrent: u32,
    /// The maximum average number of requests per second.
    pub(super) per_second: u32,
    /// The capacity of the token bucket: the maximum number of requests that may start at once after a period without
    /// requests.
    pub(super) burst: u32,
}

/// Admits the requests of one tenant. It has a counter of requests in flight and a token bucket.
#[derive(Debug)]
pub(super) struct Admission {
    in_flight: Limiter,
    /// Whether the rate is unlimited, so that the bucket is not used.
    is_rate_unlimited: AtomicBool,
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

/// The counts of a tenant's requests since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AdmissionCounts {
    /// The number of requests that are in flight now.
    pub(super) in_flight: u32,
    /// The number of all requests, including refused ones.
    pub(super) requests: u64,
    /// The number of requests that were refused because too many were in flight.
    pub(super) refused_concurrent: u64,
    /// The number of requests that were refused because of the rate.
    pub(super) refused_rate: u64,
}

impl Admission {
    /// Creates an admission whose bucket is full at the time `now`.
    #[must_use]
    pub(super) fn new(limits: AdmissionLimits, now: Instant) -> Arc<Self> {
        let burst = f64::from(limits.burst.max(1));
        Arc::new(Self {
            in_flight: Limiter::new(requests_max(limits)),
            is_rate_unlimited: AtomicBool::new(limits.per_second == u32::MAX),
            bucket: Mutex::new(Bucket { per_second: f64::from(limits.per_second), burst, tokens: burst, at: now }),
            requests: AtomicU64::new(0),
            refused_concurrent: AtomicU64::new(0),
            refused_rate: AtomicU64::new(0),
        })
    }

    /// Changes the limits. Requests in flight are not affected.
    pub(super) fn set_limits(&self, limits: AdmissionLimits) {
        self.in_flight.set_max(requests_max(limits));
        self.is_rate_unlimited.store(limits.per_second == u32::MAX, Ordering::Relaxed);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.per_second = f64::from(limits.per_second);
        bucket.burst = f64::from(limits.burst.max(1));
        bucket.tokens = bucket.tokens.min(bucket.burst);
    }

    /// Admits a request that arrives at `now`. The request counts as in flight until the returned permit is dropped.
    ///
    /// # Errors
    /// [`Refusal::Concurrency`] if too many requests are in flight. [`Refusal::Rate`] if the bucket has no token.
    pub(super) fn enter(&self, now: Instant) -> Result<Permit, Refusal> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(permit) = self.in_flight.try_acquire() else {
            self.refused_concurrent.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Concurrency);
        };
        if self.is_rate_unlimited.load(Ordering::Relaxed) {
            return Ok(permit);
        }
        if let Err(retry_after) = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            self.refused_rate.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Rate { retry_after });
        }
        Ok(permit)
    }

    /// Returns the current counts.
    #[must_use]
    pub(super) fn counts(&self) -> AdmissionCounts {
        AdmissionCounts {
            in_flight: u32::try_from(self.in_flight.in_use()).unwrap_or(u32::MAX),
            requests: self.requests.load(Ordering::Relaxed),
            refused_concurrent: self.refused_concurrent.load(Ordering::Relaxed),
            refused_rate: self.refused_rate.load(Ordering::Relaxed),
        }
    }
}

impl Bucket {
    /// Takes one token. If the bucket has no token, returns the time until it gets one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // With a rate of 0, the bucket never gets a token. The returned time is then one hour, the maximum.
        let seconds = (1.0 - self.tokens) / self.per_second.max(1e-4);
        Err(Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

fn requests_max(limits: AdmissionLimits) -> usize {
    usize::try_from(limits.concurrent).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AdmissionLimits = AdmissionLimits { concurrent: 2, per_second: 10, burst: 3 };

    #[test]
    fn a_finished_request_makes_room_for_another() {
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
    fn a_rate_can_be_set_where_there_was_none() {
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
