//! The table of traces.

use isomer_api::TraceSummary;
use isomer_display::escaped;

use super::durations::{duration, time_of_day};
use super::screen::{Cell, DIM, PLAIN, RED, YELLOW, table};

/// The number of digits of a trace id that are shown. `isomer trace` accepts an abbreviated id.
pub(crate) const ID_DIGITS: usize = 12;

const HEAD: [&str; 6] = ["TIME", "DURATION", "STATUS", "NAME", "COMPONENT", "ID"];

/// The widths of the columns of a table whose rows are printed as they arrive. 0 stands for the column with the name,
/// which gets the rest of the line.
const WIDTHS: [usize; 6] = [12, 8, 6, 0, 16, ID_DIGITS];

/// The index of the column with the name.
const NAME: usize = 3;

/// Formats traces as a table in lines of at most `width` columns.
pub(crate) fn trace_table(traces: &[TraceSummary], width: usize) -> String {
    let rows: Vec<_> = traces.iter().map(row).collect();
    table(HEAD, &rows, NAME, width)
}

/// Formats the header of a table whose rows are formatted one by one by [`trace_line`].
pub(crate) fn trace_head(width: usize) -> String {
    line(HEAD.map(|title| Cell::left(title).styled(DIM)), width)
}

/// Formats one trace as a line of at most `width` columns.
pub(crate) fn trace_line(trace: &TraceSummary, width: usize) -> String {
    line(row(trace), width)
}

fn line(cells: [Cell; 6], width: usize) -> String {
    let fixed: usize = WIDTHS.iter().sum::<usize>() + 2 * (WIDTHS.len() - 1);
    let name = width.saturating_sub(fixed).max(HEAD[NAME].len());
    let padded: Vec<_> = cells
        .iter()
        .zip(WIDTHS)
        .map(|(cell, width)| cell.padded(width.max(if width == 0 { name } else { 0 })))
        .collect();
    padded.join("  ").trim_end().to_owned() + "\n"
}

fn row(trace: &TraceSummary) -> [Cell; 6] {
    let style = status_style(trace);
    let status = match trace.status {
        Some(status) => status.to_string(),
        None if trace.failed => "failed".to_owned(),
        None => "–".to_owned(),
    };
    // A route such as `/...` does not tell requests apart, so the row shows the path.
    let name = escaped(&trace.title());
    let name = if trace.partial { format!("… {name}") } else { name };
    let component = trace.component.as_deref().map_or_else(|| "–".to_owned(), escaped);
    let id = trace.id.get(..ID_DIGITS).unwrap_or(&trace.id);
    [
        Cell::left(time_of_day(trace.start_us)).styled(DIM),
        Cell::right(duration(trace.duration_ns)),
        Cell::left(status).styled(style),
        Cell::left(name).styled(if trace.failed { RED } else { PLAIN }),
        Cell::left(component),
        Cell::left(escaped(id)).styled(DIM),
    ]
}

/// Returns the style of the status code of a trace.
pub(crate) fn status_style(trace: &TraceSummary) -> anstyle::Style {
    match trace.status {
        _ if trace.failed => RED,
        Some(500..) => RED,
        Some(400..) => YELLOW,
        _ => PLAIN,
    }
}
