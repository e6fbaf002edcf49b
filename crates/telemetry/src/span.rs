//! Spans: the operations of a trace, with their times, outcomes and attributes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AppIdentity, RequestId, SpanId, TraceId};

/// The maximum length in bytes of an attribute's text, a span's name, and the reason for a failure. Longer texts are
/// cut off.
pub const SPAN_TEXT_BYTES_MAX: usize = 1024;

/// The maximum number of attributes of a span. Further attributes are dropped.
pub const SPAN_ATTRIBUTES_MAX: usize = 32;

/// Which side of a call a span describes, with the meanings of OpenTelemetry's span kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanKind {
    /// Work inside of one component or of the platform.
    #[default]
    Internal,
    /// Serving a request or call from outside of the component.
    Server,
    /// A request or call that the component makes.
    Client,
    /// A message that the component sends.
    Producer,
    /// A message that the component receives.
    Consumer,
}

/// The outcome of a span.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanStatus {
    /// The operation did not fail.
    #[default]
    Ok,
    /// The operation failed for this reason.
    Failed(Text),
}

impl SpanStatus {
    /// Returns whether the operation failed.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Returns why the operation failed.
    pub fn reason(&self) -> Option<&Text> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Ok => None,
        }
    }
}

/// A text in a span. Copying a static or a shared text allocates nothing.
#[derive(Clone)]
pub enum Text {
    /// A text that is part of the program.
    Static(&'static str),
    /// A text that many spans share, such as the name of a component.
    Shared(Arc<str>),
    /// A text that only this span has.
    Own(Box<str>),
}

impl Text {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
            Self::Own(text) => text,
        }
    }

    /// Returns the text, cut off after at most [`SPAN_TEXT_BYTES_MAX`] bytes.
    #[must_use]
    pub(crate) fn cut(self) -> Self {
        let text = self.as_str();
        if text.len() <= SPAN_TEXT_BYTES_MAX {
            return self;
        }
        Self::Own(text[..text.floor_char_boundary(SPAN_TEXT_BYTES_MAX)].into())
    }

    /// Returns the number of bytes on the heap that belong to this text only.
    pub(crate) fn own_bytes(&self) -> usize {
        match self {
            Self::Own(text) => text.len(),
            Self::Static(_) | Self::Shared(_) => 0,
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Static(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Own(text.into())
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(text.clone())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(Text),
}

impl Value {
    /// Returns the value. A text is cut off after at most [`SPAN_TEXT_BYTES_MAX`] bytes.
    #[must_use]
    pub(crate) fn cut(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.cut()),
            value => value,
        }
    }

    /// Returns the number of bytes on the heap that belong to this value only.
    pub(crate) fn own_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.own_bytes(),
            _ => 0,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl<T: Into<Text>> From<T> for Value {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<usize> for Value {
    /// Numbers over [`i64::MAX`] become [`i64::MAX`].
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for Value {
    /// Numbers over [`i64::MAX`] become [`i64::MAX`].
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// An attribute of a span: one of the keys in [`semantics`](crate::semantics), or a key of a guest, and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The key, in the form of OpenTelemetry's semantic conventions: `http.request.method`.
    pub key: Text,
    /// The value.
    pub value: Value,
}

impl Attribute {
    /// Returns the number of bytes of memory that the attribute takes, approximately.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.own_bytes()
    }

    /// Returns the number of bytes on the heap that belong to this attribute only.
    pub(crate) fn own_bytes(&self) -> usize {
        self.key.own_bytes() + self.value.own_bytes()
    }
}

/// A finished operation of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The identity of the span in its trace.
    #[serde(with = "crate::hex_ids::span")]
    pub id: SpanId,
    /// The span that caused this span; `None` for the first span of a trace.
    #[serde(default, with = "crate::hex_ids::optional_span", skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// The name of the operation, with few distinct values: `GET /cart`, `boutique:shop/payment.charge`.
    pub name: Text,
    /// The side of a call that the span describes.
    #[serde(default)]
    pub kind: SpanKind,
    /// The component that did the work that the span describes; `None` if the platform did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Text>,
    /// The start of the operation, in nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// The duration of the operation in nanoseconds.
    pub duration_ns: u64,
    /// The outcome of the operation.
    #[serde(default)]
    pub status: SpanStatus,
    /// The attributes, each key at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

impl Span {
    /// Returns the value of the attribute `key`.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|attribute| attribute.key == *key).map(|attribute| &attribute.value)
    }

    /// Returns the end of the operation, in nanoseconds since the Unix epoch.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }

    /// Returns the number of bytes of memory that the span takes, approximately.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(Attribute::own_bytes);
        let reason = self.status.reason().map_or(0, Text::own_bytes);
        let component = self.component.as_ref().map_or(0, Text::own_bytes);
        let texts = self.name.own_bytes() + component + reason + attributes.sum::<usize>();
        size_of::<Self>() + self.attributes.capacity() * size_of::<Attribute>() + texts
    }
}

/// The spans that one process recorded for one request or call: a part of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceFragment {
    /// The trace that the spans belong to.
    pub trace_id: TraceId,
    /// The request that the spans belong to.
    pub request: RequestId,
    /// The app that served the request, on a node that serves several tenants.
    pub app: Option<AppIdentity>,
    /// Whether the trace was sampled. If not, it was kept because the request failed or was slow, and lacks calls
    /// between fused components.
    pub is_sampled: bool,
    /// The spans in the order in which they ended. The span that ended last is usually the parent of all others.
    pub spans: Vec<Span>,
    /// The number of spans that were dropped because the request had too many spans, or because the requests in
    /// progress of the app had too many spans together.
    pub spans_dropped: u64,
}

/// Converts a time to nanoseconds since the Unix epoch. Times before the epoch become 0.
pub fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
