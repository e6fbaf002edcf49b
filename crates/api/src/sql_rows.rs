//! The rows that a statement on an SQL store returns.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The rows that a statement returned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SqlRows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, with one value per column: `null`, a number or a text. An integer of more than 53 bits is
    /// `{"integer": "…"}`. A blob is `{"hex": "…", "bytes": N}`, and a text of more than 4 KiB is
    /// `{"text": "…", "bytes": N}`, both with the first 4 KiB.
    #[schemars(with = "Vec<Vec<Value>>")]
    pub rows: Vec<Vec<SqlCell>>,
    /// Whether the statement has more rows: at most 1,000 rows and 1 MiB are returned.
    pub truncated: bool,
    /// The time that the statement took, in microseconds.
    pub took_us: u64,
    /// The charge for the memory of the rows.
    #[serde(skip)]
    pub charge: ResponseCharge,
}

/// A value in a row. It is not a JSON value, because an object of a JSON value occupies much more memory than its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SqlCell {
    /// NULL.
    Null,
    /// An integer of at most 53 bits.
    Integer(i64),
    /// A finite floating-point number.
    Real(f64),
    /// A text that is not cut, or the name of a number that JSON does not have, such as `inf`.
    Text(String),
    /// An integer of more than 53 bits.
    LargeInteger {
        /// The decimal digits of the integer.
        integer: String,
    },
    /// A text that is cut.
    CutText {
        /// The beginning of the text.
        text: String,
        /// The size of the whole text in bytes.
        bytes: u64,
    },
    /// A blob.
    Blob {
        /// The beginning of the blob, as hexadecimal digits.
        hex: String,
        /// The size of the whole blob in bytes.
        bytes: u64,
    },
}

/// A charge for the memory of a response. It is released when its last clone is dropped, after the response was sent.
/// Clients do not receive it.
#[derive(Clone, Default)]
pub struct ResponseCharge(Option<Arc<dyn Any + Send + Sync>>);

impl ResponseCharge {
    /// Keeps `charge` until the last clone of the returned value is dropped.
    pub fn of(charge: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(charge)))
    }
}

impl fmt::Debug for ResponseCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResponseCharge").field(&self.0.is_some()).finish()
    }
}

/// Makes all charges equal, so that comparing [`SqlRows`] ignores them.
impl PartialEq for ResponseCharge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_read_as_they_were_written() {
        let text = |text: &str| text.to_owned();
        let cells = vec![
            SqlCell::Null,
            SqlCell::Integer(-7),
            SqlCell::Real(1.5),
            SqlCell::Text(text("a")),
            SqlCell::LargeInteger { integer: text("9007199254740993") },
            SqlCell::CutText { text: text("b"), bytes: 5000 },
            SqlCell::Blob { hex: text("00ff"), bytes: 2 },
        ];
        let written = json!(cells);
        assert_eq!(
            written,
            json!([
                null,
                -7,
                1.5,
                "a",
                { "integer": "9007199254740993" },
                { "text": "b", "bytes": 5000 },
                { "hex": "00ff", "bytes": 2 }
            ])
        );
        assert_eq!(serde_json::from_value::<Vec<SqlCell>>(written).unwrap(), cells);
    }
}
