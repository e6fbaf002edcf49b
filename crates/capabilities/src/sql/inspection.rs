//! The limits and the result of a statement of a person who looks at the data of an app.

use std::time::Duration;

/// The limits of one inspection.
#[derive(Debug, Clone)]
pub struct InspectionLimits {
    /// The maximum number of rows. Further rows are left out.
    pub rows_max: usize,
    /// The maximum size of all rows in bytes. Further rows are left out.
    pub bytes_max: usize,
    /// The maximum number of bytes of one text or blob. Longer ones are cut.
    pub cell_bytes_max: usize,
    /// The time limit. If the store's time limit for statements is lower, it applies.
    pub time: Duration,
}

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inspection {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. Each row has one value per column.
    pub rows: Vec<Vec<InspectedValue>>,
    /// Whether rows were left out.
    pub truncated: bool,
}

/// A value in the result of an inspection.
#[derive(Debug, Clone, PartialEq)]
pub enum InspectedValue {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// The beginning of a TEXT, and its size in bytes. Bytes that are not UTF-8 are replaced.
    Text(String, usize),
    /// The beginning of a BLOB, and its size in bytes.
    Blob(Vec<u8>, usize),
}

/// Returns the first `max` bytes of a text, without a part of a character at the end.
pub(super) fn cut_text(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    if bytes.len() > max { text.trim_end_matches('\u{fffd}').to_owned() } else { text }
}
