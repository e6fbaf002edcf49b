//! The limits of both sides. Reaching a limit causes either a failure with its own reason, or a wait that another limit
//! ends.

use std::time::Duration;

use isomer_wire::image::IMAGE_BYTES_MAX;

/// The settings of HTTP/2. Together they guarantee that no call can use up the window of another one: a connection's
/// window is the sum of the windows of its streams.
pub(crate) mod http2 {
    /// The maximum number of calls in flight of one connection.
    pub(crate) const STREAMS_MAX: u32 = 1024;
    /// The maximum number of unread bytes in flight of one stream. Every call in flight can make the other side buffer
    /// this many bytes, in addition to all other limits: the reader releases them at once, unless the caller computes
    /// meanwhile.
    pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 << 10;
    /// The maximum number of unread bytes in flight of one connection.
    pub(crate) const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
    /// The maximum size of one piece of a body in bytes. A small call waits at most for one piece of each other call.
    pub(crate) const FRAME_BYTES_MAX: u32 = 64 << 10;
    /// The maximum size of a stream's HTTP head in bytes. The head of a call takes three bytes.
    pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 4 << 10;
}

/// Room for eight results of the maximum size at once, or for a result of 128 KiB for each call that a connection may
/// have in flight.
const ANSWERS_BYTES_MAX: usize = 8 * IMAGE_BYTES_MAX as usize;

/// The client's limits.
#[derive(Debug, Clone)]
pub struct PeerLimits {
    /// The maximum number of calls in flight to one address. Further calls are refused as overloaded.
    pub calls_max: usize,
    /// The maximum size of one encoded result in bytes.
    pub image_bytes_max: usize,
    /// The maximum number of bytes of all encoded results that are being read, over all connections of a peer. A call
    /// whose result would exceed it fails as overloaded, after it has run.
    pub answers_bytes_max: usize,
    /// The maximum time for resolving the host name, connecting, TLS and HTTP/2 together. A call that waits for the
    /// connection stops waiting at its deadline.
    pub connect_timeout: Duration,
    /// The first pause after a failed attempt to connect. Each further pause is twice as long.
    pub backoff_min: Duration,
    /// The maximum pause.
    pub backoff_max: Duration,
    /// The pause between two checks whether a connection is alive.
    pub keep_alive_interval: Duration,
    /// The maximum time that a check may take. After it the connection is replaced.
    pub keep_alive_timeout: Duration,
    /// The maximum number of attempts at one call, including the first one.
    pub attempts_max: u32,
    /// The first pause before an idempotent call is tried again. Each further pause is twice as long.
    pub retry_pause: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            calls_max: http2::STREAMS_MAX as usize,
            image_bytes_max: IMAGE_BYTES_MAX as usize,
            answers_bytes_max: ANSWERS_BYTES_MAX,
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
    /// as overloaded without being read.
    pub calls_max: usize,
    /// The maximum size of one call's encoded arguments in bytes.
    pub image_bytes_max: usize,
    /// The maximum number of bytes of the encoded arguments of all calls that are being read or run. Further calls fail
    /// as overloaded. The same limit applies to the encoded results that are being written; a reply that would exceed
    /// it is replaced by such a failure.
    pub images_bytes_max: usize,
    /// The maximum time from the start of a connection until TLS and HTTP/2 are negotiated.
    pub handshake_timeout: Duration,
    /// The maximum time between two pieces of a call's body.
    pub body_timeout: Duration,
    /// The maximum time from the start of a call to its last byte. The call's deadline applies as well.
    pub reading_timeout: Duration,
    /// The maximum time between two pieces of a reply that the caller reads, and after the call's deadline. After it
    /// the reply's stream is reset.
    pub answer_timeout: Duration,
    /// The pause between two checks whether a connection is alive.
    pub keep_alive_interval: Duration,
    /// The maximum time that a check may take. After it the connection is closed.
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
            answer_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
        }
    }
}
