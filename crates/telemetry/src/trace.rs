//! W3C Trace Context, level 1 (section 3.2): the trace that a request belongs to, and the span that caused the request.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use crate::RequestId;
use crate::random::random_u64;

/// The length in bytes of a `traceparent` header of version 00: `00-<32 trace>-<16 parent>-<2 flags>`.
pub const TRACEPARENT_BYTES: usize = 55;

/// The identity of a trace: all spans that one request caused, in all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The identity of a span: one operation of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// The flags of a trace. Bits that level 1 does not define are passed on unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TraceFlags(u8);

/// The trace and the parent span of a request: the content of a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace that the request belongs to.
    pub trace_id: TraceId,
    /// The span in which the request was sent.
    pub parent: SpanId,
    /// The trace's flags.
    pub flags: TraceFlags,
}

impl TraceId {
    /// Returns a new random identity.
    pub fn random() -> Self {
        let high = u128::from(random_u64() | 1);
        Self(NonZeroU128::new(high << 64 | u128::from(random_u64())).expect("a bit of the upper half is set"))
    }

    /// Returns the identity with the number `raw`, or `None` for zero, which the specification forbids.
    pub fn from_raw(raw: u128) -> Option<Self> {
        NonZeroU128::new(raw).map(Self)
    }

    /// Parses 32 hexadecimal digits, as [`Display`](fmt::Display) writes them. Returns `None` for other texts.
    pub fn parse(digits: &str) -> Option<Self> {
        if digits.len() == 32 { Self::from_raw(parse_hex(digits.as_bytes())?) } else { None }
    }

    /// Returns the identity as a number.
    pub fn get(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// Returns a new random identity.
    pub fn random() -> Self {
        Self(NonZeroU64::new(random_u64() | 1).expect("the lowest bit is set"))
    }

    /// Returns the identity with the number `raw`, or `None` for zero, which the specification forbids.
    pub fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    /// Parses 16 hexadecimal digits, as [`Display`](fmt::Display) writes them. Returns `None` for other texts.
    pub fn parse(digits: &str) -> Option<Self> {
        if digits.len() == 16 { Self::from_raw(u64::try_from(parse_hex(digits.as_bytes())?).ok()?) } else { None }
    }

    /// Returns the identity as a number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// Converts a request's identity to the identity of the request's span. Both have the same number, so that logs and
/// traces can be matched.
impl From<RequestId> for SpanId {
    fn from(id: RequestId) -> Self {
        Self(NonZeroU64::new(id.get()).expect("a request's identity is not zero"))
    }
}

impl TraceFlags {
    /// Returns whether the sampled flag is set: the sender of the flags records this trace.
    pub fn is_sampled(self) -> bool {
        self.0 & 1 == 1
    }
}

impl TraceContext {
    /// Starts a new trace, which is not sampled, with the span `parent`.
    pub fn start(parent: SpanId) -> Self {
        Self { trace_id: TraceId::random(), parent, flags: TraceFlags::default() }
    }

    /// Returns the context of the span `parent` in the trace `trace_id`, which is not sampled. Both ids are hexadecimal
    /// digits, as their `Display` writes them. Returns `None` for other texts.
    pub fn from_ids(trace_id: &str, parent: &str) -> Option<Self> {
        let (trace_id, parent) = (TraceId::parse(trace_id)?, SpanId::parse(parent)?);
        Some(Self { trace_id, parent, flags: TraceFlags::default() })
    }

    /// Returns the context for the operations that the span `parent` causes in the same trace.
    #[must_use]
    pub fn child_of(self, parent: SpanId) -> Self {
        Self { parent, ..self }
    }

    /// Returns the same context with the sampled flag set to `is_sampled`.
    #[must_use]
    pub fn with_sampled(self, is_sampled: bool) -> Self {
        Self { flags: TraceFlags(self.flags.0 & !1 | u8::from(is_sampled)), ..self }
    }

    /// Parses a `traceparent` header. Returns `None` if the header is not valid.
    ///
    /// Headers of later versions may be longer, and are parsed like version 00 (W3C Trace Context, section 3.2.4).
    pub fn parse(header: &[u8]) -> Option<Self> {
        let is_longer = header.len() > TRACEPARENT_BYTES && &header[..2] != b"00" && header[TRACEPARENT_BYTES] == b'-';
        if header.len() != TRACEPARENT_BYTES && !is_longer {
            return None;
        }
        if header[2] != b'-' || header[35] != b'-' || header[52] != b'-' {
            return None;
        }
        let version = parse_hex(&header[..2])?;
        if version == 0xff {
            return None;
        }
        Some(Self {
            trace_id: TraceId::from_raw(parse_hex(&header[3..35])?)?,
            parent: SpanId::from_raw(u64::try_from(parse_hex(&header[36..52])?).ok()?)?,
            flags: TraceFlags(u8::try_from(parse_hex(&header[53..55])?).ok()?),
        })
    }

    /// Returns the header of version 00.
    pub fn to_traceparent(self) -> [u8; TRACEPARENT_BYTES] {
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let trace = self.trace_id.get();
        write_hex((trace >> 64) as u64, &mut header[3..19]);
        write_hex(trace as u64, &mut header[19..35]);
        write_hex(self.parent.get(), &mut header[36..52]);
        write_hex(u64::from(self.flags.0) << 56, &mut header[53..55]);
        header
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Parses at most 32 hexadecimal digits. The specification allows lower case only.
fn parse_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Writes the most significant hexadecimal digits of `number`, as many as fit into `out`.
fn write_hex(number: u64, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * index) & 0xf) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn text(context: TraceContext) -> String {
        String::from_utf8(context.to_traceparent().to_vec()).unwrap()
    }

    #[test]
    fn a_valid_header_is_read_and_written_unchanged() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert_eq!(context.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent.to_string(), "b7ad6b7169203331");
        assert!(context.flags.is_sampled());
        assert_eq!(text(context), VALID);
        let unknown_flags = VALID.replace("-01", "-fe");
        let context = TraceContext::parse(unknown_flags.as_bytes()).unwrap();
        assert!(!context.flags.is_sampled());
        assert_eq!(text(context), unknown_flags);
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let request = RequestId::from_raw(0xabc).unwrap();
        let child = TraceContext::parse(VALID.as_bytes()).unwrap().child_of(request.into());
        assert_eq!(text(child), "00-0af7651916cd43dd8448eb211c80319c-0000000000000abc-01");
    }

    #[test]
    fn a_context_is_made_from_its_ids() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        let (trace, parent) = (context.trace_id.to_string(), context.parent.to_string());
        assert_eq!(TraceContext::from_ids(&trace, &parent), Some(context.with_sampled(false)));
        for (trace, parent) in [("", ""), (&*trace, "0"), (&parent, &trace), (&trace, "0000000000000000")] {
            assert_eq!(TraceContext::from_ids(trace, parent), None, "{trace} {parent}");
        }
    }

    #[test]
    fn invalid_headers_are_refused() {
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let zero_parent = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
        let invalid = [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c+b7ad6b7169203331-01",
            &zero_trace,
            &zero_parent,
        ];
        for header in invalid {
            assert_eq!(TraceContext::parse(header.as_bytes()), None, "{header}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_version_00() {
        let later = VALID.replacen("00", "01", 1) + "-more";
        assert_eq!(TraceContext::parse(later.as_bytes()).map(text), Some(VALID.to_owned()));
    }

    #[test]
    fn each_new_trace_has_an_identity_of_its_own_and_is_not_sampled() {
        let span = SpanId::from_raw(1).unwrap();
        let (one, other) = (TraceContext::start(span), TraceContext::start(span));
        assert_ne!(one.trace_id, other.trace_id);
        assert!(!one.flags.is_sampled());
        assert_eq!(TraceContext::parse(&one.to_traceparent()), Some(one));
    }
}
