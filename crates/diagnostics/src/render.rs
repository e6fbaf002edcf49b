//! Renders errors and warnings as text for people.
//!
//! The renderer returns the text and prints nothing. The caller chooses whether to use colour. Text from outside
//! (names, source lines, messages of other programs) cannot move the cursor or reorder what is displayed, because the
//! renderer replaces control characters in such text.

use std::error::Error;
use std::fmt::Write as _;
use std::ops::Range;

use anstyle::{AnsiColor, Style};
use isomer_display::is_deceptive;
use unicode_width::UnicodeWidthStr;

use crate::diagnostic::{Diagnostic, Diagnostics, Label, Severity};
use crate::hints::Hinted;
use crate::source::{SourceFile, Span};

const TAB: &str = "    ";

/// The maximum number of bytes that are shown of the text at a place.
const SHOWN_BYTES: usize = 400;

/// The maximum number of bytes of a line that are shown before a place, and after it.
const SHOWN_BESIDE_BYTES: usize = 200;

/// Renders diagnostics and chains of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renderer {
    color: bool,
}

impl Renderer {
    /// Creates a renderer with or without colour.
    #[must_use]
    pub const fn new(color: bool) -> Self {
        Self { color }
    }

    /// Creates a renderer without colour.
    #[must_use]
    pub const fn plain() -> Self {
        Self::new(false)
    }

    /// Renders one diagnostic. The text ends with a line ending.
    #[must_use]
    pub fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let (prefix, style) = match diagnostic.severity {
            Severity::Error => ("error", AnsiColor::Red.on_default().bold()),
            Severity::Warning => ("warning", AnsiColor::Yellow.on_default().bold()),
        };
        let mut out = String::new();
        self.headline(&mut out, prefix, style, &diagnostic.message);
        let mut gutter = 0;
        for label in diagnostic.label.iter().chain(&diagnostic.related) {
            if let Some(source) = &label.source {
                gutter = gutter.max(source.position(label.span.start).line.to_string().len());
            }
        }
        if let Some(label) = &diagnostic.label {
            self.snippet(&mut out, label, gutter, style, '^');
        }
        for label in &diagnostic.related {
            self.snippet(&mut out, label, gutter, self.gutter_style(), '-');
        }
        for note in &diagnostic.notes {
            self.remark(&mut out, "note", AnsiColor::BrightWhite.on_default().bold(), note);
        }
        self.hints(&mut out, &diagnostic.hints);
        out
    }

    /// Renders several diagnostics with an empty line between them.
    #[must_use]
    pub fn diagnostics<'a>(&self, diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> String {
        let rendered: Vec<_> = diagnostics.into_iter().map(|diagnostic| self.diagnostic(diagnostic)).collect();
        rendered.join("\n")
    }

    /// Renders an error and its causes, followed by the hints of all of them. Omits a cause whose message equals the
    /// message of the error above it. Renders [`Diagnostics`] in the chain with their places, notes and hints.
    #[must_use]
    pub fn error(&self, error: &(dyn Error + 'static)) -> String {
        let mut out = String::new();
        let mut hints: Vec<String> = vec![];
        let mut previous: Option<String> = None;
        let mut next = Some(error);
        while let Some(current) = next {
            if let Some(hinted) = current.downcast_ref::<Hinted>() {
                for hint in hinted.hints() {
                    if !hints.contains(hint) {
                        hints.push(hint.clone());
                    }
                }
            }
            let diagnostics = current.downcast_ref::<Diagnostics>().or_else(|| {
                current.downcast_ref::<Hinted>().and_then(|hinted| hinted.inner().downcast_ref::<Diagnostics>())
            });
            if let Some(Diagnostics(diagnostics)) = diagnostics {
                if previous.is_some() {
                    out.push('\n');
                }
                out.push_str(&self.diagnostics(diagnostics));
                break;
            }
            let message = current.to_string();
            match &previous {
                None => self.headline(&mut out, "error", AnsiColor::Red.on_default().bold(), &message),
                Some(above) if *above == message => {}
                Some(_) => self.remark(&mut out, "  caused by", AnsiColor::Red.on_default().bold(), &message),
            }
            previous = Some(message);
            next = current.source();
        }
        self.hints(&mut out, &hints);
        out
    }

    fn hints(&self, out: &mut String, hints: &[String]) {
        for hint in hints {
            self.remark(out, "hint", AnsiColor::Cyan.on_default().bold(), hint);
        }
    }

    fn headline(&self, out: &mut String, prefix: &str, style: Style, message: &str) {
        let message = indent(&clean(message), prefix.len() + 2);
        let prefix = self.paint(style, prefix);
        let message = self.paint(Style::new().bold(), &format!(": {message}"));
        let _ = writeln!(out, "{prefix}{message}");
    }

    fn remark(&self, out: &mut String, prefix: &str, style: Style, text: &str) {
        let text = indent(&clean(text), prefix.len() + 2);
        let _ = writeln!(out, "{}: {text}", self.paint(style, prefix));
    }

    fn snippet(&self, out: &mut String, label: &Label, gutter: usize, style: Style, mark: char) {
        let Some(source) = &label.source else { return };
        let bar = self.paint(self.gutter_style(), "|");
        let arrow = self.paint(self.gutter_style(), "-->");
        let blank = " ".repeat(gutter);
        if label.span.is_none() {
            let _ = writeln!(out, "{blank}{arrow} {}", clean(source.name()));
            return;
        }
        let place = source.position(label.span.start);
        let line = source.line_at(label.span.start);
        let start = source.floor(label.span.start).min(line.end);
        // A place that spans several lines is underlined only to the end of its first line.
        let end = source.floor(label.span.end.max(start)).clamp(start, line.end);
        // Of a long line, only the part around the place is shown.
        let first = source.floor(start.saturating_sub(SHOWN_BESIDE_BYTES)).max(line.start);
        let last = source.floor(end.min(start + SHOWN_BYTES));
        let after = source.floor((last + SHOWN_BESIDE_BYTES).min(line.end));
        let cut = |is_cut: bool| if is_cut { "…" } else { "" };
        let before = format!("{}{}", cut(first > line.start), shown(source, first..start, label.hidden));
        let marked = format!("{}{}", shown(source, start..last, label.hidden), cut(last < end));
        let after = match last < end {
            true => String::new(),
            false => format!("{}{}", shown(source, last..after, label.hidden), cut(after < line.end)),
        };
        let underline = mark.to_string().repeat(marked.width().max(1));
        let text = clean(&label.text);

        let number = self.paint(self.gutter_style(), &format!("{:>gutter$}", place.line));
        let _ = writeln!(out, "{blank}{arrow} {}:{}:{}", clean(source.name()), place.line, place.column);
        let _ = writeln!(out, "{blank} {bar}");
        let _ = writeln!(out, "{}", format!("{number} {bar} {before}{marked}{after}").trim_end());
        let marking = if text.is_empty() { underline } else { format!("{underline} {text}") };
        let _ = writeln!(out, "{blank} {bar} {}{}", " ".repeat(before.width()), self.paint(style, &marking));
    }

    fn gutter_style(&self) -> Style {
        AnsiColor::BrightBlue.on_default().bold()
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Returns a part of a line for display, with hidden text replaced by `…`.
fn shown(source: &SourceFile, part: Range<usize>, hidden: Option<Span>) -> String {
    let text = |range: Range<usize>| clean_line(&source.text()[range]);
    match hidden.map(|hidden| source.floor(hidden.start).max(part.start)..source.floor(hidden.end).min(part.end)) {
        Some(hidden) if hidden.start < hidden.end => {
            format!("{}…{}", text(part.start..hidden.start), text(hidden.end..part.end))
        }
        _ => text(part),
    }
}

/// Indents all lines except the first.
fn indent(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}

/// Replaces the characters of a multi-line text that could move the cursor or reorder what is displayed.
fn clean(text: &str) -> String {
    text.trim_end().lines().map(clean_line).collect::<Vec<_>>().join("\n")
}

fn clean_line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => clean.push_str(TAB),
            other if is_deceptive(other) => clean.push('\u{fffd}'),
            other => clean.push(other),
        }
    }
    clean
}
