//! The limits and the result of a statement of a person who looks at the data of an app.

use std::time::Duration;

use super::{RowsCharge, VALUE_OVERHEAD_BYTES};

/// The limits of one inspection.
#[derive(Debug, Clone)]
pub struct InspectionLimits {
    /// The maximum number of rows. Further rows are left out.
    pub rows_max: usize,
    /// The maximum size of the names of the columns and all rows together in bytes, as JSON. Further rows are left out. If
    /// the names alone are larger, the inspection fails.
    pub bytes_max: usize,
    /// The maximum number of bytes of one text or blob. Longer ones are cut.
    pub cell_bytes_max: usize,
    /// The time limit. If the store's time limit for statements is lower, it applies.
    pub time: Duration,
}

/// The result of an inspection.
#[derive(Debug, PartialEq, Default)]
pub struct Inspection {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. Each row has one value per column.
    pub rows: Vec<Vec<InspectedValue>>,
    /// Whether rows were left out.
    pub truncated: bool,
    /// The charge for the memory of the result, which must be kept as long as the result.
    pub charge: RowsCharge,
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

impl InspectedValue {
    /// Returns the size of the value in a result, as JSON: blobs as hexadecimal digits, with the names of the fields.
    pub(super) fn json_bytes(&self) -> usize {
        VALUE_OVERHEAD_BYTES
            + match self {
                Self::Null | Self::Integer(_) | Self::Real(_) => 0,
                Self::Text(text, _) => json_text_bytes(text),
                Self::Blob(bytes, _) => 2 * bytes.len(),
            }
    }
}

/// Returns the size of a text in JSON, without its quotation marks.
pub(super) fn json_text_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// Returns the first `max` bytes of a text, without a part of a character at the end.
pub(super) fn cut_text(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    if bytes.len() > max { text.trim_end_matches('\u{fffd}').to_owned() } else { text }
}
