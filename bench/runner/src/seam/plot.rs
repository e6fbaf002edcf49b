//! Draws durations as a plain SVG: panels next to each other. Each panel has one row per method of making a call, with
//! a dot on a logarithmic scale.
//!
//! The picture is readable on light and on dark pages, because the colours follow the reader's colour scheme and the
//! background is transparent. The position of a dot shows the duration. The colour only distinguishes Isomer from the
//! other methods of making a call.

use std::fmt::Write as _;

use crate::report::show;

/// A panel of the picture, with its own scale.
pub(super) struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

/// A row of a panel. All durations are in microseconds.
pub(super) struct Line {
    pub name: String,
    /// Whether the row shows a method of Isomer.
    pub ours: bool,
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

const COLUMNS: usize = 2;
/// The sizes of the parts of the picture, in pixels.
const PANEL: (f64, f64) = (480.0, 40.0);
const LINE: f64 = 19.0;
const NAMES: f64 = 152.0;
const VALUES: f64 = 62.0;
const MARGIN: f64 = 16.0;
const HEAD: f64 = 62.0;
const AXIS: f64 = 24.0;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2933}\
.title{font-size:15px;font-weight:600}.panel{font-weight:600}.soft{fill:#5d6b7a;font-size:11px}\
.grid{stroke:#d5dbe1;stroke-width:1}.range{stroke-width:3;stroke-linecap:round;opacity:.35}\
.isomer{fill:#0b7285;stroke:#0b7285}.other{fill:#c2570c;stroke:#c2570c}text.isomer,text.other{stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e3e8ee}.soft{fill:#9aa7b5}.grid{stroke:#38424e}\
.isomer{fill:#3bc9db;stroke:#3bc9db}.other{fill:#ff922b;stroke:#ff922b}}";

/// Renders the picture of `panels`, each with its own scale.
pub(super) fn svg(title: &str, legend: &str, panels: &[Panel]) -> String {
    let rows: Vec<&[Panel]> = panels.chunks(COLUMNS).collect();
    let row_height =
        |row: &[Panel]| PANEL.1 + AXIS + LINE * row.iter().map(|panel| panel.lines.len()).max().unwrap_or(0) as f64;
    let height = HEAD + rows.iter().map(|row| row_height(row)).sum::<f64>() + MARGIN;
    let width = MARGIN + COLUMNS as f64 * (PANEL.0 + MARGIN);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n",
        escape(title)
    );
    text(&mut out, (MARGIN, 26.0), "title", "start", title);
    text(&mut out, (MARGIN, 46.0), "soft", "start", legend);
    let mut top = HEAD;
    for row in rows {
        for (column, panel) in row.iter().enumerate() {
            let left = MARGIN + column as f64 * (PANEL.0 + MARGIN);
            draw(&mut out, panel, (left, top));
        }
        top += row_height(row);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, (left, top): (f64, f64)) {
    let scale = Scale::over(&panel.lines);
    text(out, (left, top + 22.0), "panel", "start", &panel.title);
    let (first, last) = (left + NAMES, left + PANEL.0 - VALUES);
    let at = |us: f64| first + scale.place(us) * (last - first);
    let (begin, end) = (top + PANEL.1 - 6.0, top + PANEL.1 + LINE * panel.lines.len() as f64);
    for decade in scale.decades() {
        let x = at(decade);
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{begin:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\"/>");
        text(out, (x, end + 14.0), "soft", "middle", &time(decade, true));
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let y = top + PANEL.1 + LINE * (number as f64 + 0.5);
        let class = if line.ours { "isomer" } else { "other" };
        text(out, (left + NAMES - 10.0, y + 4.0), class, "end", &line.name);
        let (from, to) = (at(line.least), at(line.most));
        let _ = writeln!(
            out,
            "<line class=\"range {class}\" x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>\
             <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>",
            at(line.median)
        );
        text(out, (last + 8.0, y + 4.0), "soft", "start", &time(line.median, false));
    }
}

/// A logarithmic scale that begins and ends at a power of ten: it begins at or below the minimum, and ends at or above
/// the maximum. The fields are the exponents.
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    fn over(lines: &[Line]) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0f64);
        for line in lines.iter().filter(|line| line.least > 0.0) {
            least = least.min(line.least);
            most = most.max(line.most);
        }
        if most == 0.0 {
            return Self { first: 0, last: 1 };
        }
        let first = least.log10().floor() as i32;
        Self { first, last: (most.log10().ceil() as i32).max(first + 1) }
    }

    /// Returns the position of a duration on the scale, from 0 to 1.
    fn place(&self, us: f64) -> f64 {
        let place = (us.max(f64::MIN_POSITIVE).log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        place.clamp(0.0, 1.0)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.first..=self.last).map(|exponent| 10f64.powi(exponent))
    }
}

/// Renders a duration with its unit. With `round`, it is rendered without decimals.
fn time(us: f64, round: bool) -> String {
    let (value, unit) = match us {
        // The bounds are a little below the powers of ten, because floating-point powers of ten are not exact.
        0.0..0.9999 => (us * 1e3, "ns"),
        0.9999..999.9 => (us, "µs"),
        999.9..999_900.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    if round { format!("{value:.0} {unit}") } else { format!("{} {unit}", show(value)) }
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, median: f64) -> Line {
        Line { name: name.to_owned(), ours: name == "ours", median, least: median * 0.9, most: median * 1.2 }
    }

    fn panel(lines: Vec<Line>) -> Panel {
        Panel { title: "a < b".to_owned(), lines }
    }

    /// Returns the horizontal positions of all dots, from left to right.
    fn dots(svg: &str) -> Vec<f64> {
        svg.split("cx=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
    }

    #[test]
    fn powers_of_ten_have_equal_distances() {
        let svg = svg("t", "l", &[panel(vec![line("ours", 0.02), line("x", 0.2), line("y", 2.0)])]);
        let [a, b, c] = dots(&svg)[..] else { panic!("{svg}") };
        assert!(a < b && ((b - a) - (c - b)).abs() < 0.2, "{a} {b} {c}");
    }

    #[test]
    fn panels_have_their_own_scales_and_stay_in_their_columns() {
        let svg = svg("t", "l", &[panel(vec![line("ours", 2.0)]), panel(vec![line("x", 2000.0), line("y", 9e5)])]);
        let [a, b, c] = dots(&svg)[..] else { panic!("{svg}") };
        assert!(a > NAMES && a < PANEL.0, "{a}");
        assert!(b > PANEL.0 + NAMES && c > b && c < 2.0 * (PANEL.0 + MARGIN) - VALUES, "{b} {c}");
    }

    #[test]
    fn the_picture_is_well_formed_and_follows_the_colour_scheme() {
        let svg = svg("times & more", "l", &[panel(vec![line("ours", 1.0), line("<x>", 3.0)])]);
        assert!(svg.contains("times &amp; more") && svg.contains("a &lt; b") && svg.contains("&lt;x&gt;"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"));
        let opened = svg.matches("<text").count();
        assert_eq!(opened, svg.matches("</text>").count());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn times_have_their_units() {
        assert_eq!([0.005, 1.0, 54.3, 1_500.0].map(|us| time(us, false)), ["5.00 ns", "1.00 µs", "54.3 µs", "1.50 ms"]);
        assert_eq!([0.001, 10.0, 1_000.0, 1e6].map(|us| time(us, true)), ["1 ns", "10 µs", "1 ms", "1 s"]);
    }

    #[test]
    fn a_picture_without_panels_is_complete() {
        assert!(svg("t", "l", &[]).ends_with("</svg>\n"));
    }
}
