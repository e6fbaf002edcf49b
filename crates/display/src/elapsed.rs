//! Formats measured durations for messages: `85 ms`, `2.3 s`, `1 min 20 s`.

use std::fmt;
use std::time::Duration;

/// A duration, displayed as `85 ms`, `2.3 s` or `1 min 20 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed(pub Duration);

/// Returns a duration for display: in milliseconds below one second, in seconds with one decimal below one minute, and
/// in minutes and seconds above.
pub fn elapsed(time: Duration) -> Elapsed {
    Elapsed(time)
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The time is rounded before the unit is chosen, so that 999.6 ms is shown as 1.0 s, and 59.96 s as 1 min 0 s.
        let milliseconds = (self.0.as_micros() + 500) / 1_000;
        let tenths = (self.0.as_millis() + 50) / 100;
        let shown = match (milliseconds, tenths) {
            (..1_000, _) => format!("{milliseconds} ms"),
            (_, ..600) => format!("{}.{} s", tenths / 10, tenths % 10),
            _ => {
                let seconds = (self.0.as_millis() + 500) / 1_000;
                format!("{} min {} s", seconds / 60, seconds % 60)
            }
        };
        f.pad(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_one_unit_for_each_magnitude() {
        for (microseconds, shown) in [
            (0, "0 ms"),
            (499, "0 ms"),
            (500, "1 ms"),
            (85_400, "85 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (2_349_000, "2.3 s"),
            (59_949_000, "59.9 s"),
            (59_950_000, "1 min 0 s"),
            (80_400_000, "1 min 20 s"),
            (3_600_000_000, "60 min 0 s"),
        ] {
            assert_eq!(elapsed(Duration::from_micros(microseconds)).to_string(), shown);
        }
    }
}
