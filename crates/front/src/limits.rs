//! The limits of a front door, and the sizes of its connections' buffers.

use std::time::Duration;

/// The limits of a front door. If a client reaches a limit, it gets an error response or its connection is closed.
/// Every wait has a limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The maximum number of open connections. To accept one more, the front door closes an idle connection, preferably
    /// of one of the clients with the most connections. If no connection is idle, the new connection is refused.
    pub connections_max: usize,
    /// The maximum number of open connections per client network: an IPv4 address, or the /64 of an IPv6 address. To
    /// accept one more, the front door closes an idle connection of the same network. If none of them is idle, the new
    /// connection is refused.
    pub connections_per_source_max: usize,
    /// The maximum number of requests in progress. Further requests get status 503.
    pub requests_max: usize,
    /// The maximum number of header fields of a request.
    pub headers_max: usize,
    /// The maximum size of a request's head in bytes.
    pub head_bytes_max: usize,
    /// The maximum time for a complete TLS handshake.
    pub handshake_timeout: Duration,
    /// The maximum time for which a connection may be idle or receive an incomplete head: from its start, or from the
    /// end of a request, until the head of the next request is complete.
    pub head_timeout: Duration,
    /// The time without data from the client after which a draining front door closes an idle connection. Without this
    /// time, a request that the client sent before it was notified of the drain would be lost.
    pub idle_grace: Duration,
    /// The maximum time between two pieces of a request's body.
    pub body_timeout: Duration,
    /// The maximum time for which a client may read nothing while data waits to be sent to the client.
    pub write_timeout: Duration,
    /// The maximum number of concurrent streams per HTTP/2 connection.
    pub streams_max: u32,
    /// The maximum time for which a request waits until its app is loaded from disk.
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
    /// Returns the default of `connections_per_source_max`: a quarter of `connections_max`. This is enough for many
    /// clients that share one address, and prevents one client network from crowding out the others.
    #[must_use]
    pub fn per_source(connections_max: usize) -> usize {
        (connections_max / 4).max(1)
    }
}

/// The maximum number of bytes of a request's body that the server buffers while the handler does not read: the window
/// of an HTTP/2 stream, or the size of one read over HTTP/1.1. Charged to the account of the request's app.
pub(crate) const BODY_WINDOW_BYTES: usize = 64 << 10;

/// The maximum number of bytes of request bodies that the server buffers per connection, for all streams together.
/// Bounds the memory of a connection even if its requests are refused.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// The maximum number of bytes of a response that are buffered until the client reads them. Charged to the account as
/// part of the response.
pub(crate) const SEND_BUFFER_BYTES: usize = 32 << 10;
