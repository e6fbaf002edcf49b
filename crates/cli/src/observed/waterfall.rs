//! A trace as a tree of its operations, with a bar for the time of each: the output of `isomer trace`.

use anstyle::Style;
use isomer_api::{Trace, TraceSpan, TraceValue};
use isomer_display::{count, escaped, instant};
use unicode_width::UnicodeWidthStr as _;

use super::durations::duration;
use super::screen::{BLUE, BOLD, CYAN, DIM, GREEN, MAGENTA, RED, YELLOW, fitted, fitted_call, styled};
use super::trace_rows::status_style;

/// The width in columns of a field that shows a duration.
const DURATION_WIDTH: usize = 8;

/// The width in columns of the field that shows the mode of a seam.
const MODE_WIDTH: usize = 8;

/// The minimum and maximum width of a bar in columns (`BAR_WIDTH_MIN`, `BAR_WIDTH_MAX`).
const BAR_WIDTH_MIN: usize = 12;
const BAR_WIDTH_MAX: usize = 80;

/// The characters that fill zero to seven eighths of a cell, from its left.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The key of the attribute with the mode of a seam.
const MODE: &str = "isomer.seam.mode";

/// The start of a note below a trace.
const NOTE: &str = "note: ";

/// The key of the attribute that states that fused calls are missing.
const FUSED_CALLS: &str = "isomer.fused_calls";

/// The key of the attribute that only the traces of deployments have.
const DEPLOY_OPERATION: &str = "isomer.deploy.operation";

/// What the waterfall shows, and in how many columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaterfallOptions {
    /// The width of a line in columns.
    pub(crate) width: usize,
    /// Whether the attributes of each operation are listed.
    pub(crate) attributes: bool,
}

/// The widths of the columns of one waterfall. A column of width 0 is left out.
struct Columns {
    name: usize,
    component: usize,
    mode: usize,
    own: usize,
    whole: usize,
    bar: usize,
}

/// Formats a trace as a header, a table of its operations and notes about what is missing.
pub(crate) fn waterfall(trace: &Trace, options: WaterfallOptions) -> String {
    let names: Vec<_> = tree(&trace.spans);
    let columns = Columns::of(&names, &trace.spans, options.width);
    let mut out = header(trace, options.width) + "\n" + &columns.head();
    let whole = trace.spans.iter().map(|span| span.offset_ns.saturating_add(span.duration_ns)).max().unwrap_or(0);
    for (span, name) in trace.spans.iter().zip(&names) {
        out.push_str(&columns.row(span, name, whole.max(1)));
        let indent = " ".repeat(name.branch.width() + 2);
        if let Some(failure) = &span.failure {
            for line in wrapped(&escaped(failure), options.width.saturating_sub(indent.len() + 2)) {
                out.push_str(&format!("{indent}{}\n", styled(RED, &line)));
            }
        }
        if options.attributes {
            for (key, value) in &span.attributes {
                let line = format!("{} {}", escaped(key), shown(value));
                out.push_str(&format!(
                    "{indent}{}\n",
                    styled(DIM, &fitted(&line, options.width - indent.len().min(options.width)))
                ));
            }
        }
    }
    let notes = notes(trace, options.width);
    if !notes.is_empty() {
        out.push('\n');
    }
    out + &notes
}

fn header(trace: &Trace, width: usize) -> String {
    let summary = &trace.summary;
    let status = summary.status.map(|status| format!("  {}", styled(status_style(summary), &status.to_string())));
    let failed = if summary.failed { format!("  {}", styled(RED, "failed")) } else { String::new() };
    let title = fitted(&escaped(&summary.title()), width.saturating_sub(24));
    let spans = count(summary.spans, "span");
    let title =
        format!("{}{}  {}{failed}\n", styled(BOLD, &title), status.unwrap_or_default(), duration(summary.duration_ns));
    let facts = format!("{} UTC · {spans}", instant(summary.start_us / 1000));
    // A deployment has a trace, but no request.
    let is_deployment = trace.spans.iter().any(|span| span.attributes.contains_key(DEPLOY_OPERATION));
    let request = if is_deployment { String::new() } else { format!("request {} · ", escaped(&summary.request)) };
    let ids = format!("trace {}\n{request}{facts}\n", escaped(&summary.id));
    title + &styled(DIM, &ids)
}

/// Returns what the reader should know about missing spans.
fn notes(trace: &Trace, width: usize) -> String {
    let mut notes = Vec::new();
    if !trace.summary.sampled {
        notes.push("the request was not sampled: calls between fused components are missing".to_owned());
    }
    if lacks_fused_calls(trace) {
        notes.push(
            "calls between fused components are missing: the code that reports them was not ready yet when the request \
             arrived, or could not be used; later requests have them, unless the log states a reason"
                .to_owned(),
        );
    }
    if trace.spans_dropped > 0 {
        notes.push(format!("{} missing: the request had too many", count(trace.spans_dropped, "span")));
    }
    if trace.summary.partial {
        notes.push("the first span is missing: it was lost, or another machine has it".to_owned());
    }
    if trace.stopped_early {
        notes.push("spans may be missing: the search for them read too many bytes".to_owned());
    }
    if trace.spans.iter().any(|span| span.moved_ns.is_some()) {
        notes.push("the clocks of the processes differ, so the times of some spans were adjusted".to_owned());
    }
    let lines = notes.into_iter().flat_map(|note| {
        let lines = wrapped(&note, width.saturating_sub(NOTE.len()));
        lines.into_iter().enumerate().map(|(number, line)| match number {
            0 => format!("{NOTE}{line}"),
            _ => " ".repeat(NOTE.len()) + &line,
        })
    });
    lines.map(|line| styled(DIM, &line) + "\n").collect()
}

/// Returns whether a process served the sampled request with code that does not report fused calls. A component's own
/// spans, which have a scope, state nothing about this.
fn lacks_fused_calls(trace: &Trace) -> bool {
    let is_missing = |span: &TraceSpan| {
        let attributes = &span.attributes;
        attributes.get(FUSED_CALLS) == Some(&TraceValue::Text("missing".to_owned()))
            && !attributes.contains_key("otel.scope.name")
    };
    trace.spans.iter().any(is_missing)
}

/// The name of a span, and the lines of the tree that precede the name.
struct TreeName {
    branch: String,
    name: String,
}

/// Returns the names of the spans with the lines of the tree. Each span follows its parent.
fn tree(spans: &[TraceSpan]) -> Vec<TreeName> {
    // The loop visits the spans from the last to the first. `open[level]` is true if the current span, or its ancestor
    // at this level, has a sibling that is shown further below. Deeper levels belong to descendants of the current
    // span, so the span clears them.
    let depths: Vec<usize> =
        spans.iter().map(|span| usize::try_from(span.depth).unwrap_or(usize::MAX).min(DEPTH_MAX)).collect();
    let mut open = [false; DEPTH_MAX + 1];
    let mut names = Vec::with_capacity(spans.len());
    for (span, depth) in spans.iter().zip(&depths).rev() {
        let mut branch = String::new();
        for (level, is_open) in open.iter().enumerate().take(depth + 1).skip(1) {
            branch.push_str(match (level == *depth, is_open) {
                (true, true) => "├ ",
                (true, false) => "└ ",
                (false, true) => "│ ",
                (false, false) => "  ",
            });
        }
        open[*depth] = true;
        open[depth + 1..].fill(false);
        let missing = if span.parent_missing { "… " } else { "" };
        names.push(TreeName { branch, name: format!("{missing}{}", escaped(&span.name)) });
    }
    names.reverse();
    names
}

/// The maximum depth of a span in the tree. Deeper spans are shown at this depth.
const DEPTH_MAX: usize = 64;

impl Columns {
    fn of(names: &[TreeName], spans: &[TraceSpan], width: usize) -> Self {
        let name = names.iter().map(|name| name.branch.width() + name.name.width()).max().unwrap_or(0).max(4);
        let component = spans.iter().filter_map(|span| span.component.as_deref()).map(str::len).max().unwrap_or(0);
        let has_mode = spans.iter().any(|span| mode_of(span).is_some());
        let mut columns = Self {
            name,
            component: if width >= 100 { component.clamp(9, 20) } else { 0 },
            mode: if width >= 60 && has_mode { MODE_WIDTH } else { 0 },
            own: if width >= 60 { DURATION_WIDTH } else { 0 },
            whole: DURATION_WIDTH,
            bar: 0,
        };
        let rest = width.saturating_sub(columns.used() - name);
        // `rest` is the width for the tree and the bars. The tree gets at most half of it, plus what the bars cannot
        // use because of their maximum width. If the terminal is too narrow for bars, the tree gets all of it.
        columns.name = match width >= 60 {
            true => name.min((rest / 2).max(rest.saturating_sub(BAR_WIDTH_MAX + 2))),
            false => name.min(rest),
        };
        if width >= 60 {
            let bar = width.saturating_sub(columns.used() + 2);
            columns.bar = if bar < BAR_WIDTH_MIN { 0 } else { bar.min(BAR_WIDTH_MAX) };
        }
        columns
    }

    /// Returns the width of all columns with the spaces between them.
    fn used(&self) -> usize {
        let columns = [self.name, self.component, self.mode, self.own, self.whole, self.bar];
        let count = columns.iter().filter(|width| **width > 0).count();
        columns.iter().sum::<usize>() + 2 * (count - 1)
    }

    fn head(&self) -> String {
        let right = |title: &str, width: usize| format!("{title:>width$}");
        let left = |title: &str, width: usize| format!("{title:width$}");
        self.line(
            [
                left("SPAN", self.name),
                left("COMPONENT", self.component),
                left("MODE", self.mode),
                right("SELF", self.own),
                right("TOTAL", self.whole),
                String::new(),
            ]
            .map(|title| styled(DIM, &title)),
        )
    }

    fn row(&self, span: &TraceSpan, name: &TreeName, whole_ns: u64) -> String {
        let failed = span.failure.is_some();
        let style = if failed { RED } else { Style::new() };
        let width = self.name.saturating_sub(name.branch.width());
        let text = fitted_call(&name.name, width);
        let padding = " ".repeat(width.saturating_sub(text.width()));
        let component = escaped(span.component.as_deref().unwrap_or("–"));
        let component = fitted(&component, self.component);
        let mode = mode_of(span).unwrap_or_default();
        let right = |text: String, width: usize| format!("{text:>width$}");
        self.line([
            styled(DIM, &name.branch) + &styled(style, &text) + &padding,
            component.clone() + &" ".repeat(self.component.saturating_sub(component.width())),
            styled(mode_style(mode), &format!("{mode:width$}", width = self.mode)),
            styled(DIM, &right(duration(span.self_ns), self.own)),
            right(duration(span.duration_ns), self.whole),
            styled(bar_style(span), &bar(span, whole_ns, self.bar)),
        ])
    }

    fn line(&self, cells: [String; 6]) -> String {
        let widths = [self.name, self.component, self.mode, self.own, self.whole, self.bar];
        let shown = cells.into_iter().zip(widths).filter(|(_, width)| *width > 0).map(|(cell, _)| cell);
        shown.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    }
}

/// Returns the bar of a span. The `width` columns represent the duration of the whole trace, `whole_ns`. Even the
/// shortest span has a visible bar.
fn bar(span: &TraceSpan, whole_ns: u64, width: usize) -> String {
    let eighths = 8 * u128::try_from(width).unwrap_or(0);
    let position = |ns: u64| usize::try_from(u128::from(ns) * eighths / u128::from(whole_ns)).unwrap_or(0);
    let start = (position(span.offset_ns) / 8).min(width.saturating_sub(1));
    let end = position(span.offset_ns.saturating_add(span.duration_ns)).min(8 * width);
    let length = end.saturating_sub(8 * start).max(1);
    format!("{}{}{}", " ".repeat(start), "█".repeat(length / 8), EIGHTHS[length % 8])
}

fn mode_of(span: &TraceSpan) -> Option<&'static str> {
    match span.attributes.get(MODE) {
        Some(TraceValue::Text(mode)) => MODES.into_iter().find(|known| known == mode),
        _ => None,
    }
}

const MODES: [&str; 3] = ["fused", "isolated", "remote"];

fn mode_style(mode: &str) -> Style {
    match mode {
        "fused" => GREEN,
        "isolated" => YELLOW,
        "remote" => MAGENTA,
        _ => Style::new(),
    }
}

fn bar_style(span: &TraceSpan) -> Style {
    match mode_of(span) {
        _ if span.failure.is_some() => RED,
        Some(mode) => mode_style(mode),
        None if span.depth == 0 => BLUE,
        None => CYAN,
    }
}

fn shown(value: &TraceValue) -> String {
    escaped(&value.to_string())
}

/// Splits a text into lines of at most `width` columns, at spaces where possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is at least one line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.width() + 1 + word.width() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use isomer_api::TraceSummary;

    use super::*;

    fn span(depth: u32, name: &str, offset_us: u64, duration_us: u64) -> TraceSpan {
        TraceSpan {
            id: "00000000000000ab".to_owned(),
            parent: None,
            parent_missing: false,
            depth,
            name: name.to_owned(),
            kind: "internal".to_owned(),
            component: Some("pages".to_owned()),
            process: None,
            offset_ns: offset_us * 1000,
            duration_ns: duration_us * 1000,
            self_ns: duration_us * 500,
            moved_ns: None,
            failure: None,
            attributes: BTreeMap::new(),
        }
    }

    fn call(mode: &str, span: TraceSpan) -> TraceSpan {
        TraceSpan { attributes: [(MODE.to_owned(), TraceValue::Text(mode.to_owned()))].into(), ..span }
    }

    fn trace() -> Trace {
        let summary = TraceSummary {
            id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            request: "00000000000000ab".to_owned(),
            tenant: None,
            app: None,
            name: "GET /cart".to_owned(),
            path: Some("/cart".to_owned()),
            component: Some("pages".to_owned()),
            start_us: 1_700_000_000_000_000,
            duration_ns: 12_400_000,
            status: Some(500),
            spans: 6,
            failed: true,
            sampled: true,
            partial: false,
        };
        let failure = Some("the store `carts` cannot be read: no space is left on the device".to_owned());
        let spans = vec![
            span(0, "GET /cart", 0, 12_400),
            call("fused", span(1, "boutique:shop/cart.list", 300, 3_100)),
            TraceSpan { failure, ..span(2, "kv get", 400, 120) },
            span(2, "kv get", 600, 2_700),
            call("remote", span(1, "boutique:shop/currency.convert-all-of-the-prices", 3_600, 8_000)),
            call("isolated", span(1, "boutique:shop/ads.\u{1b}[2Jpick", 12_399, 0)),
        ];
        Trace { summary, spans, spans_dropped: 0, stopped_early: false }
    }

    fn plain(width: usize) -> String {
        let text = waterfall(&trace(), WaterfallOptions { width, attributes: false });
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn the_waterfall_fits_into_every_terminal() {
        for width in [40, 59, 60, 80, 99, 100, 120, 200] {
            let text = plain(width);
            for line in text.lines().skip(3) {
                assert!(line.width() <= width, "{width}: {line}");
            }
            assert!(!text.contains('\u{1b}'), "control characters are escaped");
        }
    }

    #[test]
    fn a_waterfall_of_80_columns() {
        insta::assert_snapshot!(plain(80));
    }

    #[test]
    fn a_waterfall_of_120_columns() {
        insta::assert_snapshot!(plain(120));
    }

    #[test]
    fn a_waterfall_of_40_columns() {
        insta::assert_snapshot!(plain(40));
    }

    #[test]
    fn missing_spans_are_noted() {
        let mut trace = trace();
        (trace.summary.sampled, trace.spans_dropped, trace.stopped_early) = (false, 7, true);
        assert_eq!(notes(&trace, 200).matches("note: ").count(), 3);
        let missing = |scope: Option<&str>| {
            let mut trace = super::tests::trace();
            let pairs = [(FUSED_CALLS, Some("missing")), ("otel.scope.name", scope)];
            let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
            let pairs = pairs.map(|(key, value)| (key.to_owned(), TraceValue::Text(value.to_owned())));
            trace.spans[0].attributes.extend(pairs);
            notes(&trace, 200)
        };
        assert!(missing(None).contains("fused components are missing"), "{}", missing(None));
        assert_eq!(missing(Some("own")), "", "a component's own span states nothing about the platform");
    }
}
