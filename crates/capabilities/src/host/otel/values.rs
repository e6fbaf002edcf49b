//! The values of attributes, which are JSON: `"text"`, `7`, `true`, `[1,2]`.

use isomer_telemetry::{AttributeList, SPAN_ATTRIBUTES_MAX, Value};
use serde_json::Value as Json;

use super::types::{Datetime, KeyValue};
use crate::host::records::short;

/// The maximum length of a text that is parsed. A longer text is stored as it is, cut off.
const JSON_BYTES_MAX: usize = 8 << 10;

/// The maximum number of attributes that are parsed. A guest can pass megabytes in one call, and parsing is not charged
/// to its processor time.
const PAIRS_MAX: usize = 2 * SPAN_ATTRIBUTES_MAX;

/// Returns the value that the text states. A list, an object, and a text that is not JSON become a text.
pub(super) fn value(text: &str) -> Value {
    let parsed = (text.len() <= JSON_BYTES_MAX).then(|| serde_json::from_str(text).ok()).flatten();
    match parsed {
        Some(Json::Bool(value)) => value.into(),
        Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => short(text).into(),
        },
        Some(Json::String(text)) => short(&text).into(),
        _ => short(text).into(),
    }
}

/// Returns the attributes, within the bounds of a list.
pub(super) fn attributes(pairs: &[KeyValue]) -> AttributeList {
    let mut list = AttributeList::default();
    let (read, rest) = pairs.split_at(pairs.len().min(PAIRS_MAX));
    for KeyValue { key, value: text } in read {
        list.push(key, value(text));
    }
    list.count_dropped(rest.len());
    list
}

/// Returns a time in nanoseconds since the Unix epoch; the largest number for times that do not fit.
pub(super) fn unix_ns(time: Datetime) -> u64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanoseconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json() {
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!([value("7"), value("1.5")], [Value::Int(7), Value::Float(1.5)]);
        assert_eq!(value("\"a\\nb\""), Value::from("a\nb"));
        assert_eq!([value("[1]"), value("plain")], [Value::from("[1]"), Value::from("plain")]);
        assert_eq!(value("18446744073709551615"), Value::Float(18_446_744_073_709_551_615.0));
        let deep = "[".repeat(100_000);
        let Value::Text(text) = value(&deep) else { panic!("a text") };
        assert_eq!(text.as_str().len(), isomer_telemetry::SPAN_TEXT_BYTES_MAX);
        assert_eq!(value(&"[".repeat(500)), Value::from("[".repeat(500)));
    }
}
