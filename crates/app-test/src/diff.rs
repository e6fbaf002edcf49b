//! Finds the lines in which two texts differ.

use isomer_display::is_deceptive;

/// The maximum number of lines of a text or difference that are shown.
const LINES_MAX: usize = 24;

/// The number of equal lines that are shown before and after a difference.
const CONTEXT: usize = 2;

/// The maximum number of characters of a line that are shown.
const LINE_CHARS_MAX: usize = 160;

/// How much of a request, response or difference a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportDetail {
    /// Only the first lines, and only the beginning of long lines.
    Short,
    /// All lines, at full length.
    Whole,
}

/// Returns the lines in which two texts differ. `-` marks lines that are only in `expected`, `+` lines that are only in
/// `found`.
///
/// Of the lines that the texts have in common at the beginning and at the end, only a few are shown. All lines between
/// the first and the last difference are shown, even those that the texts have in common. An algorithm for the shortest
/// edit would be more code without much benefit, because the responses of two shapes mostly differ in one place.
pub(crate) fn lines(expected: &str, found: &str, detail: ReportDetail) -> Vec<String> {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same_begin = expected.iter().zip(&found).take_while(|(left, right)| left == right).count();
    let rest = expected.len().min(found.len()) - same_begin;
    let same_end = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(|(l, r)| l == r).count();
    let marked = |mark: char, line: &str| format!("{mark} {}", detail.shown(line));
    let middle = |all: &[&str], mark| -> Vec<String> {
        all[same_begin..all.len() - same_end].iter().map(|line| marked(mark, line)).collect()
    };
    let before = expected[same_begin.saturating_sub(CONTEXT)..same_begin].iter().map(|line| marked(' ', line));
    let after = expected[expected.len() - same_end..].iter().take(CONTEXT).map(|line| marked(' ', line));
    let (removed, added) = (detail.bounded(middle(&expected, '-')), detail.bounded(middle(&found, '+')));
    before.chain(removed).chain(added).chain(after).collect()
}

/// Returns the first lines of a text, or all lines for [`ReportDetail::Whole`].
pub(crate) fn beginning(text: &str, detail: ReportDetail) -> Vec<String> {
    detail.bounded(text.lines().map(|line| format!("  {}", detail.shown(line))).collect())
}

impl ReportDetail {
    fn bounded(self, mut lines: Vec<String>) -> Vec<String> {
        if self == Self::Short && lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!("  … and {more} more lines"));
        }
        lines
    }

    /// Returns the line without control characters, and shortened if it is too long.
    fn shown(self, line: &str) -> String {
        let line: String = line.chars().map(|c| if is_deceptive(c) { '\u{fffd}' } else { c }).collect();
        match line.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) if self == Self::Short => format!("{}…", &line[..end]),
            _ => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines_are_left_out() {
        let text = |line: &str| format!("a\nb\nc\n{line}\nd\ne\nf\n");
        assert_eq!(lines(&text("1"), &text("2"), ReportDetail::Short), ["  b", "  c", "- 1", "+ 2", "  d", "  e"]);
        assert_eq!(lines("a\nb\n", "a\n", ReportDetail::Short), ["  a", "- b"]);
        assert_eq!(lines("", "new", ReportDetail::Short), ["+ new"]);
        assert_eq!(lines("x\nx\n", "x\nx\nx\n", ReportDetail::Short), ["  x", "  x", "+ x"]);
    }

    #[test]
    fn long_texts_are_cut_and_control_characters_are_replaced() {
        let many: String = (0..100).map(|number| format!("{number}\n")).collect();
        let shown = lines("", &many, ReportDetail::Short);
        assert_eq!((shown.len(), shown[LINES_MAX].as_str()), (LINES_MAX + 1, "  … and 76 more lines"));
        assert_eq!(lines("", &many, ReportDetail::Whole).len(), 100);
        assert_eq!(beginning(&"ä".repeat(200), ReportDetail::Whole)[0].chars().count(), 2 + 200);
        assert_eq!(beginning("\u{1b}[31mred", ReportDetail::Short), ["  \u{fffd}[31mred"]);
        assert_eq!(beginning(&"ä".repeat(200), ReportDetail::Short)[0].chars().count(), 2 + LINE_CHARS_MAX + 1);
    }
}
