//! The limits of client and server. If a limit is reached, a call or a connection either fails, with a reason that
//! names the limit, or waits. Another limit bounds the time of each wait.

use std::time::Duration;

use isomer_wire::image::IMAGE_BYTES_MAX;

/// The settings of HTTP/2. A connection's window is the sum of the windows of its streams, so no call can use up the
/// window of another call.
pub(crate) mod http2 {
    /// The maximum number of calls in flight per connection.
    pub(crate) const STREAMS_MAX: u32 = 1024;
    /// The maximum number of unread bytes in flight per stream. Each call in flight can make the peer buffer this many
    /// bytes, in addition to the bytes that other limits count. The reader releases the bytes immediately, unless its
    /// task is computing.
    pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 << 10;
    /// The maximum number of unread bytes in flight per connection.
    pub(crate) const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
    /// The maximum size of one DATA frame in bytes. If many calls send data at the same time, a small call waits for at
    /// most one frame of this size from each of the other calls.
    pub(crate) const FRAME_BYTES_MAX: u32 = 64 << 10;
    /// The maximum size of a request's or response's HTTP head in bytes. The head of a call takes three bytes.
    pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 4 << 10;
}

/// The default of [`PeerLimits::results_bytes_max`]: eight results of the maximum size. This is 128 KiB for each of the
/// calls that a connection may have in flight.
const RESULTS_BYTES_MAX: usize = 8 * IMAGE_BYTES_MAX as usize;

/// The client's limits.
#[derive(Debug, Clone)]
pub struct PeerLimits {
    /// The maximum number of calls in flight to one address. Further calls are refused as overloaded.
    pub calls_max: usize,
    /// The maximum size of one encoded result in bytes.
    pub image_bytes_max: usize,
    /// The maximum total size in bytes of the encoded results that are being read, over all connections of a peer. A
    /// call whose result would exceed this total fails as overloaded, after the callee has run.
    pub results_bytes_max: usize,
    /// The maximum total time for resolving the host name, connecting, and negotiating TLS and HTTP/2. A call that
    /// waits for the connection stops waiting at its deadline.
    pub connect_timeout: Duration,
    /// The pause after the first failed attempt to connect. Each further pause is twice as long as the previous one.
    pub backoff_min: Duration,
    /// The maximum pause after a failed attempt to connect.
    pub backoff_max: Duration,
    /// The time between a successful keep-alive check and the next ping.
    pub keep_alive_interval: Duration,
    /// The maximum time to wait for the response to a ping, after which the connection is replaced.
    pub keep_alive_timeout: Duration,
    /// The maximum number of attempts at one call, including the first one.
    pub attempts_max: u32,
    /// The pause before the first retry of an idempotent call. Each further pause is twice as long as the previous one.
    pub retry_pause: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            calls_max: http2::STREAMS_MAX as usize,
            image_bytes_max: IMAGE_BYTES_MAX as usize,
            results_bytes_max: RESULTS_BYTES_MAX,
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            attempts_max: 3,
            retry_pause: Duration::from_millis(10),
        }
    }
}

/// The server's limits.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// The maximum number of open connections. Further connections wait in the kernel's queue.
    pub connections_max: usize,
    /// The maximum number of calls that are being read, run or responded to, over all connections. Further calls fail
    /// as overloaded before their bodies are read.
    pub calls_max: usize,
    /// The maximum size of one call's encoded arguments in bytes.
    pub image_bytes_max: usize,
    /// The maximum total size in bytes of the encoded arguments of all calls that are being read or run. Further calls
    /// fail as overloaded. The same maximum applies separately to the encoded results that are being written: a result
    /// that would exceed the maximum is replaced by an overloaded failure.
    pub images_bytes_max: usize,
    /// The maximum time from accepting a connection until TLS and HTTP/2 are negotiated.
    pub handshake_timeout: Duration,
    /// The maximum time between two pieces of a call's body.
    pub body_timeout: Duration,
    /// The maximum time from the start of a call until its last byte has arrived. The call's deadline applies as well.
    pub reading_timeout: Duration,
    /// The time after which a reply's stream is reset: if writing the reply makes no progress for this time, or if the
    /// reply is not completely written this long after the call's deadline.
    pub response_timeout: Duration,
    /// The time between a successful keep-alive check and the next ping.
    pub keep_alive_interval: Duration,
    /// The maximum time to wait for the response to a ping, after which the connection is closed.
    pub keep_alive_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            calls_max: 1024,
            image_bytes_max: IMAGE_BYTES_MAX as usize,
            images_bytes_max: 512 << 20,
            handshake_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            reading_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
        }
    }
}
