//! The terminal on standard output: its width, and text in columns and colours.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The width if standard output is not a terminal and the environment has no `COLUMNS`.
const WIDTH_DEFAULT: usize = 100;

/// The smallest width that output is formatted for. A narrower terminal wraps lines.
const WIDTH_MIN: usize = 40;

/// The largest width that output is formatted for, because longer lines are hard to read.
const WIDTH_MAX: usize = 200;

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const BLUE: Style = AnsiColor::Blue.on_default();
pub(crate) const MAGENTA: Style = AnsiColor::Magenta.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Returns the number of columns for which output is formatted: the width of the terminal, or the value of `COLUMNS` if
/// standard output is not a terminal.
pub(crate) fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = terminal.filter(|columns| *columns > 0).or_else(columns).unwrap_or(WIDTH_DEFAULT);
    width.clamp(WIDTH_MIN, WIDTH_MAX)
}

/// Returns the height of the terminal on standard output in lines; `None` if standard output is not a terminal.
pub(crate) fn height() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Formats `text` in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    if text.is_empty() || style == PLAIN { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

/// Shortens `text` to `width` columns, with an ellipsis if anything is left out.
pub(crate) fn fitted(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut used, mut shown) = (0, String::new());
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= width {
            break;
        }
        shown.push(character);
    }
    if width > 0 { shown + "…" } else { shown }
}

/// Shortens the name of a call, `package:name/interface.function`, to `width` columns. The function is kept, and the
/// interface, if there is room. Other texts are shortened at their end.
pub(crate) fn fitted_call(name: &str, width: usize) -> String {
    let is_call = name.contains(':') && !name.contains(' ');
    if !is_call || name.width() <= width {
        return fitted(name, width);
    }
    let parts = ['/', '.'].into_iter().filter_map(|separator| name.rfind(separator));
    // At least one character of the start remains, with the ellipsis.
    let mut parts = parts.map(|position| name.split_at(position)).filter(|(_, tail)| tail.width() + 2 <= width);
    match parts.next() {
        Some((start, tail)) => fitted(start, width - tail.width()) + tail,
        None => fitted(name, width),
    }
}

/// A cell of a table: a text with a style, which is aligned in its column.
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) style: Style,
    pub(crate) is_right: bool,
}

impl Cell {
    pub(crate) fn left(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: PLAIN, is_right: false }
    }

    pub(crate) fn right(text: impl Into<String>) -> Self {
        Self { is_right: true, ..Self::left(text) }
    }

    pub(crate) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// Formats the cell for a column of `width` columns.
    pub(crate) fn padded(&self, width: usize) -> String {
        let text = fitted(&self.text, width);
        let padding = " ".repeat(width.saturating_sub(text.width()));
        let text = styled(self.style, &text);
        if self.is_right { padding + &text } else { text + &padding }
    }
}

/// Formats rows below a header, in lines of at most `width` columns. Each column is as wide as its longest cell, except
/// that the column with the index `flexible` gets shorter if a line would be too long.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[Cell; N]], flexible: usize, width: usize) -> String {
    let mut widths = head.map(|title| title.width());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let whole: usize = widths.iter().sum::<usize>() + 2 * (N - 1);
    widths[flexible] = widths[flexible].saturating_sub(whole.saturating_sub(width)).max(head[flexible].width());
    let line = |cells: [String; N]| cells.join("  ").trim_end().to_owned() + "\n";
    let is_right = |column: usize| rows.first().is_some_and(|row| row[column].is_right);
    let head = std::array::from_fn(|column| {
        Cell { text: head[column].to_owned(), style: DIM, is_right: is_right(column) }.padded(widths[column])
    });
    let rows = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].padded(widths[column]))));
    line(head) + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flexible_column_is_shortened() {
        let rows = [[Cell::right("1"), Cell::left("a long name"), Cell::left("x")]];
        let plain = |width| anstream::adapter::strip_str(&table(["N", "NAME", "ID"], &rows, 1, width)).to_string();
        assert_eq!(plain(40), "N  NAME         ID\n1  a long name  x\n");
        assert_eq!(plain(14), "N  NAME     ID\n1  a long…  x\n");
    }

    #[test]
    fn the_function_of_a_call_is_kept() {
        let name = "boutique:shop/payment.charge";
        let shown = [40, 28, 20, 15, 9, 8, 0].map(|width| fitted_call(name, width));
        let expected =
            [name, name, "bout…/payment.charge", "boutiqu….charge", "b….charge", "boutiqu…", ""].map(str::to_owned);
        assert_eq!(shown, expected);
        assert_eq!(fitted_call("GET /static/a.css", 10), "GET /stat…");
        assert_eq!(fitted_call("sql query", 4), "sql…");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(["日本語", "日本", "ab"].map(|text| fitted(text, 4)), ["日…", "日本", "ab"]);
        assert_eq!(fitted("abc", 0), "");
    }
}
