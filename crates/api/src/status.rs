//! A node as a whole, and its log's lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where the front door listens.
    pub listen: Vec<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// How many tenants there are.
    pub tenants: u64,
    /// How many apps there are.
    pub apps: u64,
    /// Those of them that are in memory.
    pub apps_loaded: u64,
    /// How many may be.
    pub apps_loaded_max: u64,
    /// Live instances.
    pub instances: u64,
    /// Bytes of memory that the process has.
    pub resident_bytes: u64,
    /// Requests since it started.
    pub requests: u64,
    /// How often an app was loaded from disk since it started.
    pub loads: u64,
    /// How often one was dropped from memory.
    pub drops: u64,
    /// Open connections of the front door.
    pub connections: u64,
    /// Idle or half-open connections that were closed so that others could be taken on, since it started.
    pub connections_evicted: u64,
    /// Connections that were refused since every place was taken by one with a request in progress, since it started.
    pub connections_refused: u64,
}

/// Which lines of an app's log are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// The last so many; 100 where absent.
    pub lines: Option<u32>,
    /// And then all that come.
    pub follow: bool,
    /// The app's access log: the requests that it answered, in place of what it and the node say. The node writes it with `--access-log`.
    pub access: bool,
}

/// A line of an app's log. A query answers with one JSON object a line (`application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// Who: a component of the app; absent for what the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// `stdout`, `stderr`, `access` for a request that was answered, or `node` for what the node says of the app: failures, denials, lines that
    /// were dropped.
    pub stream: String,
    /// The request that was served, as 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The text. Control characters are as they were written: whoever shows it to a person escapes them.
    pub text: String,
    /// The guest's call stack, innermost first, one frame an element. Only failures have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}
