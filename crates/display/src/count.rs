//! Numbers of things: `1 instance`, `3 instances`.

/// Formats a number of things. `one` is the name of one thing; its plural ends with `s`.
///
/// ```
/// assert_eq!(isomer_display::count(1, "line"), "1 line");
/// assert_eq!(isomer_display::count(0, "line"), "0 lines");
/// ```
#[must_use]
pub fn count(number: u64, one: &str) -> String {
    format!("{number} {}", plural(number, one, &format!("{one}s")))
}

/// Returns `one` if `number` is 1, and `many` for other numbers.
#[must_use]
pub fn plural<'a>(number: u64, one: &'a str, many: &'a str) -> &'a str {
    if number == 1 { one } else { many }
}
