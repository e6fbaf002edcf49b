//! The limits of a front door, and the buffers that its connections have.

use std::time::Duration;

/// The limits of a front door. A client that reaches one gets an error response, or its connection is closed; nothing waits without an
/// end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. For a further one, the connection that has been idle for the longest time is closed; if none is idle, the new
    /// connection is refused.
    pub connections_max: usize,
    /// Open connections of one client network: an IPv4 address, or the /64 of an IPv6 address. For a further one, one of the same
    /// network is closed.
    pub connections_per_source_max: usize,
    /// Requests in progress. Further ones get 503.
    pub requests_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// For a whole TLS handshake.
    pub handshake_timeout: Duration,
    /// From the moment a connection waits for a request until the request's head is complete. Bounds slow heads and idle connections.
    pub head_timeout: Duration,
    /// How long the client of an idle connection may be silent while the front door drains: a request that the client sent before it
    /// could know arrives in this time. Then the connection is closed.
    pub idle_grace: Duration,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// How long a client may read nothing while there is something to write.
    pub write_timeout: Duration,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// How long a request waits for an app that has to be loaded from disk.
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
    /// Returns the default of `connections_per_source_max`: a quarter of `connections_max`. That is enough for many clients behind one
    /// address, and one client network cannot have so many connections that others notice.
    #[must_use]
    pub fn per_source(connections_max: usize) -> usize {
        (connections_max / 4).max(1)
    }
}

/// Bytes of a request's body that the server buffers while the handler does not read: the window of an HTTP/2 stream, or what is read from
/// an HTTP/1.1 connection at once. Charged to the account of the app that the request is for.
pub(crate) const BODY_WINDOW_BYTES: usize = 64 << 10;

/// The same for all streams of a connection together: what a connection can make the server hold whatever becomes of its requests.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of a response that wait for a stream's client. Charged with the response.
pub(crate) const SEND_BUFFER_BYTES: usize = 32 << 10;
