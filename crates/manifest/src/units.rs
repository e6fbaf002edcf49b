//! The notation of sizes and durations: `"64MiB"`, `"500ms"`.
//!
//! A value is a whole number and a unit. [`SIZE_UNITS`] and [`DURATION_UNITS`] list the units. The parser, the pattern
//! in the JSON Schema and the messages use these lists.

use std::time::Duration;

use isomer_ids::InvalidText;

/// The units of sizes, each with its number of bytes.
pub(crate) const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// The units of durations, each with its number of milliseconds.
pub(crate) const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Parses a size such as `64MiB` and returns the number of bytes.
///
/// # Errors
/// Returns the reason if the text is not a size.
pub fn parse_size(text: &str) -> Result<u64, InvalidText> {
    parse("a size", "64MiB", text, SIZE_UNITS)
}

/// Parses a duration such as `30s` or `500ms`.
///
/// # Errors
/// Returns the reason if the text is not a duration.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidText> {
    parse("a duration", "30s", text, DURATION_UNITS).map(Duration::from_millis)
}

/// Returns a size as a whole number of the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZE_UNITS)
}

/// Returns a duration as a whole number of the largest unit that divides it. Fractions of a millisecond are dropped.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS)
}

/// Returns a regular expression that matches a whole number with one of the units.
pub(crate) fn pattern(units: &[(&str, u64)]) -> String {
    format!("^[0-9]+({})$", names(units).join("|"))
}

fn names<'a>(units: &[(&'a str, u64)]) -> Vec<&'a str> {
    units.iter().map(|(name, _)| *name).collect()
}

fn parse(kind: &'static str, example: &'static str, text: &str, units: &[(&str, u64)]) -> Result<u64, InvalidText> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let invalid = |problem: String, suggestion: Option<String>| {
        InvalidText::new(kind, example, text, problem).suggest(suggestion)
    };
    let known = names(units).join("`, `");
    if number.is_empty() {
        return Err(invalid(format!("it must be a whole number and a unit (`{known}`)"), None));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let loose = unit.trim().to_ascii_lowercase();
        let suggestion = units.iter().find(|(name, _)| name.to_ascii_lowercase() == loose).or_else(|| {
            units.iter().find(|(name, _)| !loose.is_empty() && common_notation(name) == loose.trim_end_matches('s'))
        });
        let problem = if unit.is_empty() {
            format!("it has no unit (`{known}`)")
        } else {
            format!("`{unit}` is not one of the units `{known}`")
        };
        return Err(invalid(problem, suggestion.map(|(name, _)| format!("{number}{name}"))));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| invalid("it is too large".to_owned(), None))
}

/// Returns another notation of `unit` that users often write, in lower case and singular. If a text has this notation,
/// the error suggests `unit`.
fn common_notation(unit: &str) -> &'static str {
    match unit {
        "B" => "byte",
        "KiB" => "k",
        "MiB" => "m",
        "GiB" => "g",
        "ms" => "millisecond",
        "s" => "sec",
        "m" => "min",
        "h" => "hour",
        _ => "",
    }
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().filter(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = fits.max_by_key(|(_, factor)| *factor).unwrap_or(&units[0]);
    format!("{}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_parsed_and_displayed() {
        for (text, bytes) in [("0B", 0), ("64MiB", 64 << 20), ("10kB", 10_000), ("1GiB", 1 << 30), ("7B", 7)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        for (text, milliseconds) in [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn invalid_quantities_are_refused_with_a_reason_and_a_suggestion() {
        for (text, problem, suggestion) in [
            ("64", "no unit", None),
            ("64mb", "`mb` is not one of", Some("64MB")),
            ("64 MiB", "not one of", Some("64MiB")),
            ("64M", "not one of", Some("64MiB")),
            ("MiB", "whole number", None),
            ("-1B", "whole number", None),
            ("99999999999999GiB", "too large", None),
            ("99999999999999999999999B", "too large", None),
            ("", "whole number", None),
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.problem.contains(problem), "{error}");
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}");
        }
        assert_eq!(parse_duration("30sec").expect_err("no such unit").suggestion.as_deref(), Some("30s"));
        assert_eq!(parse_duration("5minutes").expect_err("no such unit").suggestion.as_deref(), None);
    }
}
