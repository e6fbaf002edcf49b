//! The ids by which a trace is found.

use std::str::FromStr;

use isomer_telemetry::{RequestId, TraceId};

/// The id by which a trace is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceKey {
    /// The id of the trace: 32 hexadecimal digits.
    Trace(TraceId),
    /// The id of a request of the trace: 16 hexadecimal digits.
    Request(RequestId),
}

/// The text is not the id of a trace or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace id has 32 hexadecimal digits, and a request id has 16")]
pub struct InvalidTraceKey;

impl FromStr for TraceKey {
    type Err = InvalidTraceKey;

    fn from_str(text: &str) -> Result<Self, InvalidTraceKey> {
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidTraceKey);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidTraceKey)?;
        let key = match text.len() {
            32 => TraceId::from_raw(number).map(Self::Trace),
            16 => u64::try_from(number).ok().and_then(RequestId::from_raw).map(Self::Request),
            _ => None,
        };
        key.ok_or(InvalidTraceKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_its_id_or_by_its_request() {
        let key = |text: &str| text.parse::<TraceKey>().ok();
        assert_eq!(
            key("0af7651916cd43dd8448eb211c80319c"),
            TraceId::from_raw(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c).map(TraceKey::Trace)
        );
        assert_eq!(key("00000000000000ab"), RequestId::from_raw(0xab).map(TraceKey::Request));
        for invalid in ["", "ab", "0000000000000000", "+0000000000000ab", "00000000000000abc", "x0000000000000ab"] {
            assert_eq!(key(invalid), None, "{invalid}");
        }
    }
}
