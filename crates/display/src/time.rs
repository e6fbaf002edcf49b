//! Formats points in time, in UTC.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Formats a number of seconds since 1970 as `2026-11-21 14:54`.
#[must_use]
pub fn minute(seconds: u64) -> String {
    format(timestamp(seconds.saturating_mul(1000)), "%Y-%m-%d %H:%M")
}

/// Formats a number of milliseconds since 1970 as `2026-11-21 14:54:18.123`.
#[must_use]
pub fn instant(milliseconds: u64) -> String {
    format(timestamp(milliseconds), "%Y-%m-%d %H:%M:%S%.3f")
}

/// Formats the time of day of `at` as `14:54:18.123`. A time before 1970 is shown as the start of 1970.
pub fn time_of_day(at: SystemTime) -> impl Display {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX).max(Timestamp::UNIX_EPOCH);
    format(at, "%H:%M:%S%.3f")
}

/// Converts a number of milliseconds since 1970. Returns the last representable time if the number is too large.
fn timestamp(milliseconds: u64) -> Timestamp {
    i64::try_from(milliseconds).ok().and_then(|since| Timestamp::from_millisecond(since).ok()).unwrap_or(Timestamp::MAX)
}

fn format(at: Timestamp, format: &str) -> String {
    at.strftime(format).to_string()
}

/// Parses a time in RFC 3339 with its UTC offset, for example `2026-03-01T12:00:00Z`; `None` for any other text, and
/// for times before 1970.
#[must_use]
pub fn parse_instant(text: &str) -> Option<SystemTime> {
    let since = u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(minute(0), "1970-01-01 00:00");
        // 29 February 2000, and the day after 28 February 2100, which is not a leap year.
        assert_eq!(minute(951_782_400 + 3_660), "2000-02-29 01:01");
        assert_eq!(minute(4_107_542_400), "2100-03-01 00:00");
        assert_eq!(instant(1_795_272_858_004), "2026-11-21 14:54:18.004");
        assert_eq!(minute(u64::MAX), "9999-12-30 22:00", "the last time that can be displayed");
    }

    #[test]
    fn a_time_of_day_has_milliseconds() {
        assert_eq!(time_of_day(UNIX_EPOCH + Duration::from_millis(3_723_004)).to_string(), "01:02:03.004");
        assert_eq!(time_of_day(UNIX_EPOCH - Duration::from_secs(1)).to_string(), "00:00:00.000");
    }

    #[test]
    fn an_instant_is_read_with_its_distance_to_utc() {
        let seconds = |text: &str| {
            parse_instant(text).and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|it| it.as_secs())
        };
        assert_eq!(seconds("1970-01-01T00:01:00Z"), Some(60));
        assert_eq!(seconds("1970-01-01T02:00:00+01:00"), Some(3600));
        assert_eq!(["", "1970-01-01", "noon"].map(seconds), [None; 3]);
    }
}
