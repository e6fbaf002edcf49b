//! Formats durations and times for the output of traces and metrics, and parses the durations and times in flags.

use std::time::{Duration, SystemTime};

/// Formats a duration with three significant digits: `7 ns`, `12.3 µs`, `1.20 ms`, `45.0 s`, `12 min`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    /// The units below a minute, with the number of nanoseconds of each.
    const UNITS: [(&str, u64); 3] = [("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    if nanoseconds < 1_000 {
        return format!("{nanoseconds} ns");
    }
    for (unit, size) in UNITS {
        // From 999.5 on, the next unit is used, because the number would be rounded to 1000.
        if unit == "s" && nanoseconds < 60 * size || unit != "s" && nanoseconds < size * 999 + size / 2 {
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            let value = nanoseconds as f64 / size as f64;
            let digits = if value < 9.995 {
                2
            } else if value < 99.95 {
                1
            } else {
                0
            };
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{} min", nanoseconds / 60_000_000_000)
}

/// Formats the time of day (UTC) of a time in microseconds since 1970.
pub(crate) fn time_of_day(microseconds: u64) -> String {
    let since = Duration::from_micros(microseconds);
    isomer_display::time_of_day(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

/// Formats a number per second with at most three digits: `0.4`, `12`, `3.4k`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.0}k", rate / 1e3),
    }
}

/// Parses a duration: a number and a unit, for example `250ms`, `1.5s`, `10m`, `2h`, `1d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    /// The units, with the number of seconds of each. The first unit that the text ends with is used, so `us` and `ms`
    /// come before `s`.
    const UNITS: [(&str, f64); 6] =
        [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let parsed =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, seconds)));
    let duration = parsed.filter(|(number, _)| number.is_finite() && *number >= 0.0);
    let duration = duration.and_then(|(number, seconds)| Duration::try_from_secs_f64(number * seconds).ok());
    duration.ok_or_else(|| "write a number with a unit: `250ms`, `1s`, `10m`, `2h`, `1d`".to_owned())
}

/// Parses a time: a duration before now, or a time in UTC like `2026-03-01T12:00:00Z`.
pub(crate) fn parse_time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let hint = "write a duration before now (`10m`, `2h`), or a time in UTC (`2026-03-01T12:00:00Z`)";
    isomer_display::parse_instant(text).ok_or_else(|| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let durations = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (1_203_000, "1.20 ms"),
            (59_900_000_000, "59.9 s"),
            (60_000_000_000, "1 min"),
            (u64::MAX, "307445734 min"),
        ];
        for (nanoseconds, text) in durations {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let parsed = |text: &str| parse_duration(text).ok().map(|duration| duration.as_micros());
        assert_eq!(
            ["250ms", "1.5s", "10m", "2h", "1d", "7us"].map(parsed),
            [250_000, 1_500_000, 600_000_000, 7_200_000_000, 86_400_000_000, 7].map(Some)
        );
        for text in ["", "5", "ms", "-1s", "1 y", "infs", "nans", "1e300d"] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert!(parse_time("10m").is_ok() && parse_time("2026-03-01T12:00:00Z").is_ok() && parse_time("noon").is_err());
    }

    #[test]
    fn rates_are_short() {
        assert_eq!([0.04, 1.0, 12.3, 3_420.0, 123_456.0].map(rate), ["0.0", "1.0", "12", "3.4k", "123k"]);
        assert_eq!(time_of_day(1_709_164_801_007_000), "00:00:01.007");
    }
}
