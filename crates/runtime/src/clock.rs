//! The process's monotonic clock as a number that fits into an atomic, and the processor time of a thread.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The instant at which [`now`] is 0: the time at which the process first used this clock.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the nanoseconds since the process first used this clock.
pub(crate) fn now() -> u64 {
    nanoseconds_at(Instant::now())
}

/// Returns the value that [`now`] would have returned at `instant`; 0 for an instant before the process first used this
/// clock.
pub(crate) fn nanoseconds_at(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(*START).as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the processor time that the calling thread has used so far.
pub(crate) fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
