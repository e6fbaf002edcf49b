//! Formats responses of a node for a terminal: tables, times, sizes, and text that must be escaped.

use std::fmt::Write as _;

pub(crate) use isomer_display::{instant, minute};
use isomer_ids::TenantName;
use unicode_width::UnicodeWidthStr as _;

/// Formats rows below a header. Each column is as wide as its longest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|title| title.width());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            let _ = write!(text, "{cell}{:1$}", "", width - cell.width() + 2);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    out
}

/// Formats a number of seconds with the two largest units, for example `3 d 4 h`.
pub(crate) fn time_span(seconds: u64) -> String {
    let units = [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("min", seconds / 60 % 60), ("s", seconds % 60)];
    let from = units.iter().position(|(_, count)| *count > 0).unwrap_or(3);
    let shown: Vec<String> = units[from..].iter().take(2).map(|(unit, count)| format!("{count} {unit}")).collect();
    shown.join(" ")
}

/// Formats a number of bytes, for example `97.4 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    isomer_display::size(bytes).to_string()
}

/// Formats a quota that is a number of bytes, which may be unlimited.
pub(crate) fn size_quota(bytes: u64) -> String {
    if bytes == u64::MAX { UNLIMITED.to_owned() } else { size(bytes) }
}

/// Formats a quota that is a count, which may be unlimited.
pub(crate) fn count_quota(count: u32) -> String {
    if count == u32::MAX { UNLIMITED.to_owned() } else { count.to_string() }
}

/// Formats a quota in milliseconds of processor time per second as a number of cores.
pub(crate) fn cores(milliseconds: u32) -> String {
    match milliseconds {
        u32::MAX => UNLIMITED.to_owned(),
        1000 => "1 core".to_owned(),
        milliseconds => format!("{} cores", f64::from(milliseconds) / 1000.0),
    }
}

/// The text for a quota that has no limit.
pub(crate) const UNLIMITED: &str = "unlimited";

/// Returns the flag `--tenant` for a command that a message suggests, or nothing for the default tenant.
pub(crate) fn tenant_flag(tenant: &TenantName) -> String {
    if tenant.as_str() == TenantName::DEFAULT { String::new() } else { format!(" --tenant {tenant}") }
}

/// Formats names as a list, separated by commas.
pub(crate) fn list<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        let dates = [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_709_164_800, "2024-02-29 00:00"),
            (1_735_689_599, "2024-12-31 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ];
        for (seconds, date) in dates {
            assert_eq!(minute(seconds), date);
        }
        assert_eq!(instant(1_709_164_801_007), "2024-02-29 00:00:01.007");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["ü".to_owned(), String::new()], ["long name".to_owned(), "x".to_owned()]];
        assert_eq!(table(["A", "B"], &rows), "A          B\nü\nlong name  x\n");
    }

    #[test]
    fn times_and_quotas_are_short() {
        assert_eq!([0, 59, 61, 7_200, 90_000].map(time_span), ["0 s", "59 s", "1 min 1 s", "2 h 0 min", "1 d 1 h"]);
        assert_eq!([1536, u64::MAX].map(size_quota), ["1.5 KiB", "unlimited"].map(ToOwned::to_owned));
        let shown = [500, 1000, 2000, u32::MAX].map(cores);
        assert_eq!(shown, ["0.5 cores", "1 core", "2 cores", "unlimited"]);
    }
}
