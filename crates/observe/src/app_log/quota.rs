//! The quota of bytes that all apps of a tenant together may log in an hour.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The period of the quota.
const HOUR: Duration = Duration::from_secs(3600);

/// A tenant's quota of log bytes per hour. The first line after the end of an hour starts the next hour.
#[derive(Debug)]
pub struct LogQuota {
    bytes_per_hour: AtomicU64,
    hour: Mutex<Hour>,
    refused: AtomicU64,
    /// The number of bytes in lines of the tenant's apps that wait to be written.
    pub(super) waiting_bytes: AtomicUsize,
    /// The number of lines of the tenant's apps that wait to be written.
    pub(super) waiting_lines: AtomicUsize,
}

/// The use of the quota in the current hour.
#[derive(Debug, Default)]
struct Hour {
    /// The start of the current hour, or `None` before the first line.
    since: Option<Instant>,
    bytes: u64,
    /// The part of `bytes` that lines of clients used.
    of_clients: u64,
}

impl LogQuota {
    /// Creates a quota of which nothing has been used yet. `u64::MAX` means unlimited.
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

    /// Changes the quota. The new quota also applies to the current hour: the bytes that were already charged to it
    /// still count.
    pub fn set(&self, bytes_per_hour: u64) {
        self.bytes_per_hour.store(bytes_per_hour, Ordering::Relaxed);
    }

    /// Returns the maximum number of bytes per hour.
    #[must_use]
    pub fn bytes_per_hour(&self) -> u64 {
        self.bytes_per_hour.load(Ordering::Relaxed)
    }

    /// Returns the number of lines that were dropped because of the quota since the process started.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Charges `bytes` to the hour that contains `now`, if the quota has enough bytes left. Returns whether they were
    /// charged. Access logs and lines of tabs may use at most half of the quota, because clients decide how many there
    /// are. This way, clients cannot cause the loss of lines that the app itself writes.
    pub(super) fn take(&self, bytes: u64, is_of_clients: bool, now: Instant) -> bool {
        let max = self.bytes_per_hour();
        if max == u64::MAX {
            return true;
        }
        let mut hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        if hour.since.is_none_or(|since| now.saturating_duration_since(since) >= HOUR) {
            *hour = Hour { since: Some(now), ..Hour::default() };
        }
        let of_clients = hour.of_clients.saturating_add(if is_of_clients { bytes } else { 0 });
        let fits = hour.bytes.saturating_add(bytes) <= max && (!is_of_clients || of_clients <= max / 2);
        if fits {
            hour.bytes += bytes;
            hour.of_clients = of_clients;
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
    fn each_hour_has_the_whole_quota() {
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
    fn lines_of_clients_get_at_most_half_of_the_quota() {
        let (quota, now) = (LogQuota::new(100), Instant::now());
        assert!(quota.take(50, true, now) && !quota.take(1, true, now) && quota.take(50, false, now));
        let later = now + HOUR;
        assert!(quota.take(80, false, later) && !quota.take(21, true, later) && quota.take(20, true, later));
    }
}
