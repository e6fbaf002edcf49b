//! Serializes the ids of traces and spans as hexadecimal digits, as W3C Trace Context writes them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::SpanId;

fn parse_span<E: Error>(text: &str) -> Result<SpanId, E> {
    let raw = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    raw.and_then(SpanId::from_raw).ok_or_else(|| E::custom("a span id is 16 hexadecimal digits, and not zero"))
}

/// A [`SpanId`] as 16 hexadecimal digits.
pub(crate) mod span {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &SpanId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SpanId, D::Error> {
        parse_span(&String::deserialize(deserializer)?)
    }
}

/// An optional [`SpanId`] as 16 hexadecimal digits or null.
pub(crate) mod optional_span {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(id: &Option<SpanId>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SpanId>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| parse_span(&text)).transpose()
    }
}
