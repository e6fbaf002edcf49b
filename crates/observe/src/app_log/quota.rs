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
    hour: Mutex<Hour>,
    refused: AtomicU64,
    /// Bytes of lines of the tenant's apps that wait to be written.
    pub(super) waiting_bytes: AtomicUsize,
    /// How many these are.
    pub(super) waiting_lines: AtomicUsize,
}

/// What was said in an hour.
#[derive(Debug, Default)]
struct Hour {
    /// When it began.
    since: Option<Instant>,
    bytes: u64,
    /// What of it were lines of access logs.
    of_access: u64,
}

impl LogQuota {
    /// A quota of so many bytes.
    #[must_use]
    pub fn new(bytes_per_hour: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_per_hour: AtomicU64::new(bytes_per_hour),
            hour: Mutex::default(),
            refused: AtomicU64::new(0),
            waiting_bytes: AtomicUsize::new(0),
            waiting_lines: AtomicUsize::new(0),
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

    /// Takes `bytes` of the hour that `now` is in; all of them or none. Lines of access logs have half of it at most: clients decide how many
    /// there are, and what the apps say must not be lost for them.
    pub(super) fn take(&self, bytes: u64, is_access: bool, now: Instant) -> bool {
        let max = self.bytes_per_hour();
        if max == u64::MAX {
            return true;
        }
        let mut hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        if hour.since.is_none_or(|since| now.saturating_duration_since(since) >= HOUR) {
            *hour = Hour { since: Some(now), ..Hour::default() };
        }
        let of_access = hour.of_access.saturating_add(if is_access { bytes } else { 0 });
        let fits = hour.bytes.saturating_add(bytes) <= max && (!is_access || of_access <= max / 2);
        if fits {
            hour.bytes += bytes;
            hour.of_access = of_access;
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
        let take = |bytes: u64, now: Instant| quota.take(bytes, false, now);
        assert!(take(60, now) && take(40, now));
        assert!(!take(1, now + HOUR - Duration::from_secs(1)));
        assert!(take(100, now + HOUR));
        quota.set(150);
        assert!(take(50, now + HOUR) && !take(1, now + HOUR));
        assert_eq!(quota.refused(), 2);
    }

    #[test]
    fn requests_leave_half_of_it_to_what_apps_say() {
        let (quota, now) = (LogQuota::new(100), Instant::now());
        assert!(quota.take(50, true, now) && !quota.take(1, true, now) && quota.take(50, false, now));
        let later = now + HOUR;
        assert!(quota.take(80, false, later) && !quota.take(21, true, later) && quota.take(20, true, later));
    }
}
