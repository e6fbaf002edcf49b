//! Traces: the operations that one request caused, in all components and processes.
//!
//! The units of times are chosen so that every number is exact in JavaScript: the start of a trace is in microseconds
//! since 1970, and the start of a span in nanoseconds since the start of its trace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of traces in a page if a query has no limit.
pub const TRACES_DEFAULT: u32 = 50;

/// The maximum number of traces in a page.
pub const TRACES_MAX: u32 = 500;

/// A query for traces. All conditions must hold. Conditions about spans (`component`, `caller`, `callee`, `interface`,
/// `function`, `attribute` and `text`) hold if any span of the trace meets them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceQuery {
    /// The maximum number of traces to return, the newest first; 50 if absent, at most 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The cursor of the page to return: the `next` value of the previous page. If absent, the first page is returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only traces of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<TraceKind>,
    /// Only traces in which this component ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Only traces in which this component called another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Only traces in which another component called this component. If `caller` is present, a single call must match
    /// both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callee: Option<String>,
    /// Only traces with a call of this interface. If `caller` or `callee` is present, a single call must match all of
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Only traces with a call of this function. If `caller`, `callee` or `interface` is present, a single call must
    /// match all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only traces of requests that matched this route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only traces of requests for this path, or for paths below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only traces of at least this duration, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_us: Option<u64>,
    /// Only traces of at most this duration, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u64>,
    /// Only traces whose request failed, or in which an operation failed.
    pub failed: bool,
    /// Only traces of requests whose response had this status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Only traces that started at this time or later, in milliseconds since 1970-01-01 00:00 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Only traces that started before this time, in milliseconds since 1970-01-01 00:00 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Only traces with a span that has this attribute, as `KEY=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Only traces with a span that contains this text in its name, its component, its failure or the value of an
    /// attribute. Upper and lower case of ASCII letters are not distinguished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What a trace shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TraceKind {
    /// A request to the app.
    Request,
    /// An operation that brings a revision into service: a deployment, a rollback, a swap of components, or a change of
    /// the shape.
    Deployment,
}

/// Some traces, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TracePage {
    /// The traces.
    pub traces: Vec<TraceSummary>,
    /// The text for `after` in the query of the next page; absent if there are no more traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Whether the search stopped before the page was full, because it had read as many bytes as one query may read. If
    /// so, `next` continues the search.
    #[serde(default)]
    pub stopped_early: bool,
}

/// A trace without its spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSummary {
    /// The id of the trace, as 32 hexadecimal digits. If a client sends several requests with the same trace id, they
    /// belong to one trace, and each request has its own summary with this id.
    pub id: String,
    /// The id of the request, as 16 hexadecimal digits. Lines of the log contain it. For a deployment, the id of the first
    /// span.
    pub request: String,
    /// The tenant of the app; absent if the process does not serve several tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The app; absent if the process does not serve several tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The name of the trace's first span: `GET /cart`.
    pub name: String,
    /// The path of the request, without its query, at most 1024 bytes; absent if the trace does not contain the request.
    /// The text comes from a client, so a program that prints it must escape control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The component that handled the request; absent if the platform responded itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The time at which the trace started, in microseconds since 1970-01-01 00:00 UTC.
    pub start_us: u64,
    /// The duration in nanoseconds.
    pub duration_ns: u64,
    /// The status code of the response; absent if the trace does not contain the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The number of spans that are stored.
    pub spans: u64,
    /// Whether the request or an operation of it failed.
    pub failed: bool,
    /// Whether the trace was sampled. If not, it is stored because the request failed or was slow, and calls between
    /// fused components are missing.
    pub sampled: bool,
    /// Whether the first span is missing: it was lost, or another machine has stored it. The other fields then describe
    /// the spans that are stored.
    #[serde(default, skip_serializing_if = "is_false")]
    pub partial: bool,
}

impl TraceSummary {
    /// Returns the method and the path of the request (`GET /cart/7`), or the name of the trace (`GET /cart/{id}`) if the
    /// path is not known.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.path, self.name.split_once(' ')) {
            (Some(path), Some((method, _))) => format!("{method} {path}"),
            _ => self.name.clone(),
        }
    }
}

/// A trace with its spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// The trace without its spans.
    pub summary: TraceSummary,
    /// The spans: each span follows its parent, and spans with the same parent are sorted by their start.
    pub spans: Vec<TraceSpan>,
    /// The number of spans that were not stored, because the request had too many spans.
    #[serde(default)]
    pub spans_dropped: u64,
    /// Whether spans may be missing because the search had read as many bytes as one query may read.
    #[serde(default)]
    pub stopped_early: bool,
}

/// An operation of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSpan {
    /// The id of the span, as 16 hexadecimal digits.
    pub id: String,
    /// The id of the span that caused this span; absent for the first span of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether the parent is not among the spans: it was lost, or a client of the app has recorded it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parent_missing: bool,
    /// The number of ancestors among the spans.
    pub depth: u32,
    /// The name of the operation.
    pub name: String,
    /// The kind of the span, as in OpenTelemetry: `internal`, `server`, `client`, `producer` or `consumer`.
    pub kind: String,
    /// The component that did the work that the span describes; absent if the platform did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The group whose process recorded the span; absent if the app runs in one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The start of the operation in nanoseconds since the start of the trace.
    pub offset_ns: u64,
    /// The duration of the operation in nanoseconds.
    pub duration_ns: u64,
    /// The operation's own time in nanoseconds: its duration without the times in which a child span was running.
    pub self_ns: u64,
    /// The number of nanoseconds by which the start was moved, because the clocks of the processes differ; absent if it
    /// was not moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_ns: Option<i64>,
    /// Why the operation failed; absent if it did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The attributes. Texts come from guests and clients, so a program that prints them must escape control
    /// characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, TraceValue>,
}

/// The value of an attribute of a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TraceValue {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
}

impl std::fmt::Display for TraceValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let summary = TraceSummary {
            id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            request: "00000000000000ab".to_owned(),
            tenant: None,
            app: None,
            name: "GET /{page}".to_owned(),
            path: Some("/cart".to_owned()),
            component: Some("pages".to_owned()),
            start_us: 1_700_000_000_000_000,
            duration_ns: 1_500_000,
            status: Some(200),
            spans: 1,
            failed: false,
            sampled: true,
            partial: false,
        };
        let values = [
            ("http.response.status_code", TraceValue::Int(200)),
            ("isomer.instance.cold", TraceValue::Bool(true)),
            ("ratio", TraceValue::Float(0.5)),
            ("url.path", TraceValue::Text("/cart".to_owned())),
        ];
        let span = TraceSpan {
            id: "00000000000000ab".to_owned(),
            parent: None,
            parent_missing: false,
            depth: 0,
            name: "GET /cart".to_owned(),
            kind: "server".to_owned(),
            component: Some("pages".to_owned()),
            process: None,
            offset_ns: 0,
            duration_ns: 1_500_000,
            self_ns: 1_500_000,
            moved_ns: None,
            failure: None,
            attributes: values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        };
        assert_eq!(summary.title(), "GET /cart");
        assert_eq!(TraceSummary { path: None, ..summary.clone() }.title(), "GET /{page}");
        let trace = Trace { summary, spans: vec![span], spans_dropped: 0, stopped_early: false };
        let text = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
    }
}
