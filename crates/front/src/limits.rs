//! The limits of a front door, and the sizes of its connections' buffers.

use std::time::Duration;

/// The limits of a front door. A client that reaches a limit gets an error response, or its connection is closed; no
/// wait is unlimited.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maximum number of open connections. When it is reached, the connection that has been idle for the longest
    /// time is closed for a new one; if no connection is idle, the new one is refused.
    pub connections_max: usize,
    /// The maximum number of open connections of one client network: an IPv4 address, or the /64 of an IPv6 address.
    /// When it is reached, a connection of the same network is closed for a new one.
    pub connections_per_source_max: usize,
    /// The maximum number of requests in progress. Further requests get 503.
    pub requests_max: usize,
    /// The maximum number of header fields of a request.
    pub headers_max: usize,
    /// The maximum size of a request's head in bytes.
    pub head_bytes_max: usize,
    /// The maximum time for a whole TLS handshake.
    pub handshake_timeout: Duration,
    /// The maximum time from the moment a connection waits for a request until the request's head is complete. Bounds
    /// slow heads and idle connections.
    pub head_timeout: Duration,
    /// While the front door drains, an idle connection is closed after its client has been silent for this time. A
    /// request that the client sent before it learned of the draining arrives in this time.
    pub idle_grace: Duration,
    /// The maximum time between two pieces of a request's body.
    pub body_timeout: Duration,
    /// The maximum time that a client may read nothing while data waits to be sent to it.
    pub write_timeout: Duration,
    /// The maximum number of streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// The maximum time that a request waits for an app that has to be loaded from disk.
    pub load_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_source_max: Self::per_source(10_000),
            requests_max: 4_096,
            headers_max: 100,
            head_bytes_max: 64 << 10,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            idle_grace: Duration::from_secs(1),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            streams_max: 128,
            load_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Returns the default of `connections_per_source_max`: a quarter of `connections_max`. That is enough for many
    /// clients that share one address, and too few for one client network to crowd out the others.
    #[must_use]
    pub fn per_source(connections_max: usize) -> usize {
        (connections_max / 4).max(1)
    }
}

/// Bytes of a request's body that the server buffers while the handler does not read: the window of an HTTP/2 stream,
/// or the size of one read from an HTTP/1.1 connection. Charged to the account of the app that the request is for.
pub(crate) const BODY_WINDOW_BYTES: usize = 64 << 10;

/// Bytes of request bodies that the server buffers for all streams of a connection together. It bounds the memory that
/// a connection can occupy even if its requests are refused.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of a response that are buffered until the client reads them. Charged with the response.
pub(crate) const SEND_BUFFER_BYTES: usize = 32 << 10;
