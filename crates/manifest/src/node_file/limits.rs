//! The limits that a node file can set.

use std::time::Duration;

/// The limits that a node file sets. The platform's default applies to a limit that is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// The maximum number of apps in memory.
    pub apps_loaded: Option<u32>,
    /// The number of bytes that must stay free on the disk of the data directory. A tenant's write fails if it would
    /// use them.
    pub disk_reserve: Option<u64>,
    /// The maximum number of open connections of the front door.
    pub connections: Option<u32>,
    /// The maximum number of open connections from one client address.
    pub connections_per_address: Option<u32>,
    /// The maximum number of requests in progress.
    pub requests: Option<u32>,
    /// The maximum number of header fields of a request.
    pub headers: Option<u32>,
    /// The maximum size of a request's head in bytes.
    pub head_bytes: Option<u64>,
    /// The maximum number of concurrent streams of one HTTP/2 connection.
    pub streams: Option<u32>,
    /// The maximum duration of a TLS handshake.
    pub handshake_timeout: Option<Duration>,
    /// The maximum time until a request's head is complete, and the maximum time for which a connection may be idle.
    pub head_timeout: Option<Duration>,
    /// The maximum time that an idle connection stays open when the node shuts down, if its client sends nothing.
    pub idle_grace: Option<Duration>,
    /// The maximum time between two pieces of a request's body.
    pub body_timeout: Option<Duration>,
    /// The maximum time that a client may read nothing while data waits to be sent to it.
    pub write_timeout: Option<Duration>,
    /// The maximum time that a request waits for its app to be loaded from disk.
    pub load_timeout: Option<Duration>,
    /// The maximum `request_deadline` that a manifest can set.
    pub request_deadline: Option<Duration>,
    /// The maximum `limits.stream` that a manifest can set.
    pub stream: Option<Duration>,
    /// The maximum `statement_timeout` that a manifest can set.
    pub statement_timeout: Option<Duration>,
}

impl NodeLimits {
    /// The default of the limit `request_deadline`: ten minutes.
    pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
    /// The default of the limit `stream`: one day. The limit exists because a stream occupies an instance.
    pub const STREAM_DEFAULT: Duration = Duration::from_secs(24 * 3600);
    /// The default of the limit `statement_timeout`: one minute. The limit exists because statements occupy threads
    /// that all tenants share.
    pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

    /// Returns the limit `request_deadline`, or the platform's default.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        self.request_deadline.unwrap_or(Self::REQUEST_DEADLINE_DEFAULT)
    }

    /// Returns the limit `stream`, or the platform's default.
    #[must_use]
    pub fn stream(&self) -> Duration {
        self.stream.unwrap_or(Self::STREAM_DEFAULT)
    }

    /// Returns the limit `statement_timeout`, or the platform's default.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or(Self::STATEMENT_TIMEOUT_DEFAULT)
    }
}
