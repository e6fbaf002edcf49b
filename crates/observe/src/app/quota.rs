//! How much a tenant's apps may say in an hour, all together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The window that is counted over.
const HOUR: Duration = Duration::from_secs(3600);

/// A tenant's quota of bytes of log lines. Hours are counted from the first line on.
#[derive(Debug)]
pub struct LogQuota {
    bytes_per_hour: AtomicU64,
    /// When the hour began, and what was said in it.
    hour: Mutex<(Option<Instant>, u64)>,
    refused: AtomicU64,
    /// Bytes of lines of the tenant's apps that wait to be written.
    pub(super) waiting_bytes: AtomicUsize,
}

impl LogQuota {
    /// A quota of so many bytes.
    #[must_use]
    pub fn new(bytes_per_hour: u64) -> Arc<Self> {
        let hour = Mutex::new((None, 0));
        Arc::new(Self {
            bytes_per_hour: AtomicU64::new(bytes_per_hour),
            hour,
            refused: AtomicU64::new(0),
            waiting_bytes: AtomicUsize::new(0),
        })
    }

    /// Another quota from now on, for this hour too.
    pub fn set(&self, bytes_per_hour: u64) {
        self.bytes_per_hour.store(bytes_per_hour, Ordering::Relaxed);
    }

    /// How many bytes an hour there may be.
    #[must_use]
    pub fn bytes_per_hour(&self) -> u64 {
        self.bytes_per_hour.load(Ordering::Relaxed)
    }

    /// Lines that were dropped for it since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of the hour that `now` is in; all of them or none.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> bool {
        let max = self.bytes_per_hour();
        if max == u64::MAX {
            return true;
        }
        let mut hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        if hour.0.is_none_or(|begun| now.saturating_duration_since(begun) >= HOUR) {
            *hour = (Some(now), 0);
        }
        let fits = hour.1.saturating_add(bytes) <= max;
        if fits {
            hour.1 += bytes;
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_so_many_bytes_and_the_next_one_again() {
        let (quota, now) = (LogQuota::new(100), Instant::now());
        assert!(quota.take(60, now) && quota.take(40, now));
        assert!(!quota.take(1, now + HOUR - Duration::from_secs(1)));
        assert!(quota.take(100, now + HOUR));
        quota.set(150);
        assert!(quota.take(50, now + HOUR) && !quota.take(1, now + HOUR));
        assert_eq!(quota.refused(), 2);
    }
}
