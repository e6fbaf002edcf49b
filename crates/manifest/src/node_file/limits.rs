//! The limits of a node.

use std::time::Duration;

/// The limits of a node. Absent limits have the platform's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// The number of apps in memory.
    pub apps_loaded: Option<u32>,
    /// The bytes of the disk that tenants' writes leave free.
    pub disk_reserve: Option<u64>,
    /// The number of open connections.
    pub connections: Option<u32>,
    /// The number of open connections of one client address.
    pub connections_per_address: Option<u32>,
    /// The number of requests that are served at once.
    pub requests: Option<u32>,
    /// The number of header fields of a request.
    pub headers: Option<u32>,
    /// The size of a request's head in bytes.
    pub head_bytes: Option<u64>,
    /// The number of streams of one HTTP/2 connection.
    pub streams: Option<u32>,
    /// The time for a TLS handshake.
    pub handshake_timeout: Option<Duration>,
    /// The time for a request's head to be complete.
    pub head_timeout: Option<Duration>,
    /// The time that the client of an idle connection may be silent when the node shuts down.
    pub idle_grace: Option<Duration>,
    /// The time between two pieces of a request's body.
    pub body_timeout: Option<Duration>,
    /// The maximum time that a client may read nothing while data waits to be sent to it.
    pub write_timeout: Option<Duration>,
    /// The time that a request waits for an app to be loaded from disk.
    pub load_timeout: Option<Duration>,
    /// The maximum `request_deadline` of a manifest.
    pub request_deadline: Option<Duration>,
    /// The maximum `limits.stream` of a manifest.
    pub stream: Option<Duration>,
    /// The maximum `statement_timeout` of a manifest.
    pub statement_timeout: Option<Duration>,
}

impl NodeLimits {
    /// The default maximum of `request_deadline`.
    pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
    /// The default maximum of `limits.stream`. A stream occupies an instance.
    pub const STREAM_DEFAULT: Duration = Duration::from_secs(24 * 3600);
    /// The default maximum of `statement_timeout`. Statements occupy threads that all tenants share.
    pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

    /// Returns `request_deadline`, or the platform's default.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        self.request_deadline.unwrap_or(Self::REQUEST_DEADLINE_DEFAULT)
    }

    /// Returns `stream`, or the platform's default.
    #[must_use]
    pub fn stream(&self) -> Duration {
        self.stream.unwrap_or(Self::STREAM_DEFAULT)
    }

    /// Returns `statement_timeout`, or the platform's default.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or(Self::STATEMENT_TIMEOUT_DEFAULT)
    }
}
