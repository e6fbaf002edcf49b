//! The state of a node, and lines of apps' logs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LogLevel, TraceValue};

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The addresses of the front door.
    pub listen: Vec<String>,
    /// The shape in which the app runs; absent on a node, whose apps may run in different shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// Seconds since the node started.
    pub uptime_s: u64,
    /// The number of tenants.
    pub tenants: u64,
    /// The number of apps.
    pub apps: u64,
    /// The number of apps in memory.
    pub apps_loaded: u64,
    /// The maximum number of apps in memory.
    pub apps_loaded_max: u64,
    /// The number of live instances.
    pub instances: u64,
    /// The resident memory of the process in bytes.
    pub resident_bytes: u64,
    /// The number of requests since the node started.
    pub requests: u64,
    /// The number of times that an app was loaded from disk since the node started.
    pub loads: u64,
    /// The number of times that an app was evicted from memory since the node started.
    pub drops: u64,
    /// The number of open connections of the front door.
    pub connections: u64,
    /// The number of idle or half-open connections that were closed to make room for new connections, since the node
    /// started.
    pub connections_evicted: u64,
    /// The number of connections that were refused since the node started, because the maximum was reached and every
    /// open connection had a request in progress.
    pub connections_refused: u64,
}

/// A query for lines of an app's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// The number of most recent lines to return; 100 if absent.
    pub lines: Option<u32>,
    /// Whether to continue with new lines as they are written.
    pub follow: bool,
    /// Whether to return the app's access log (the requests that the app served) instead of its output. The access log
    /// exists if the node runs with `--access-log`.
    pub access: bool,
    /// Whether to return the lines that tabs sent, in an app with a browser group, instead of the app's output. Visitors
    /// can send any line.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tabs: bool,
    /// Return only lines of this request: its id, 16 hexadecimal digits. Only the last 10,000 lines are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Return only lines of this trace: its id, 32 hexadecimal digits. Only the last 10,000 lines are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Return only structured records and messages of the platform of this severity or a higher one. Only the last
    /// 10,000 lines are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
}

/// A line of an app's log. A query returns one JSON object per line (`application/x-ndjson`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The time at which the line was written, in milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// The component that wrote the line; absent if the node wrote the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The source of the line: `stdout` or `stderr` of the component, `log` for a record that the component logged through
    /// `wasi:logging` or `wasi:otel`, `access` for a served request, `tab` for a line that a tab sent, or `node` for a message of the node about the app. For
    /// example, the node reports failures, accesses without a grant, and the number of dropped lines.
    pub stream: String,
    /// The id of the request that the component was serving, as 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The id of the trace that the request belongs to, as 32 hexadecimal digits. Absent in lines that an earlier
    /// version of Isomer wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The id of the span during which the line was written, as 16 hexadecimal digits. For an isolated or remote
    /// component, this is the span of the call that the component was executing. Otherwise, it is the span of the
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// The text of the line. Control characters are not escaped, so a program that prints the text must escape them.
    pub text: String,
    /// The severity of a structured record, if the component states one, or of a message of the platform. Absent in
    /// messages that an earlier version of Isomer wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// The time that the component states in a structured record, in milliseconds since 1970-01-01 00:00 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// The further fields of a structured record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, TraceValue>,
    /// The guest's call stack, innermost frame first; absent if the line does not report a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}
