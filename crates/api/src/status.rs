//! The state of a node, and lines of apps' logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The addresses of the front door.
    pub listen: Vec<String>,
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
    /// How often an app was loaded from disk since the node started.
    pub loads: u64,
    /// How often an app was evicted from memory since the node started.
    pub drops: u64,
    /// The number of open connections of the front door.
    pub connections: u64,
    /// The number of idle or half-open connections that were closed in favour of new ones, since the node started.
    pub connections_evicted: u64,
    /// The number of connections that were refused because all others had a request in progress, since the node
    /// started.
    pub connections_refused: u64,
}

/// A query for lines of an app's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// The number of most recent lines; 100 if absent.
    pub lines: Option<u32>,
    /// Whether to send further lines as they are written.
    pub follow: bool,
    /// Whether to read the app's access log (requests that it answered) instead of its output. The node writes it with
    /// `--access-log`.
    pub access: bool,
}

/// A line of an app's log. A query returns one JSON object per line (`application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The time in milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// The component that wrote the line; absent for lines of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// `stdout`, `stderr`, `access` for a request that was answered, or `node` for messages of the node about the app:
    /// failures, denials, dropped lines.
    pub stream: String,
    /// The request that was being served, as 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The text. Control characters are kept; a program that shows it to people must escape them.
    pub text: String,
    /// The guest's call stack, innermost frame first. Only failures have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}
