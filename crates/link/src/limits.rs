//! Every bound of both sides. Reaching one is a failure of its own, or waiting that ends by another one.

use std::time::Duration;

use isomer_wire::image::IMAGE_BYTES_MAX;

/// What a client's streams and connections have by HTTP/2. Together they say that nothing which one call does or leaves
/// undone takes the window of another: a connection's window is that of all its streams.
pub(crate) mod http2 {
    /// Calls in flight of one connection.
    pub(crate) const STREAMS_MAX: u32 = 1024;
    /// Bytes of one stream that may be on their way unread. Every call in flight can have so many of them held, whatever else is
    /// bounded: its reader takes them off at once, unless the caller computes meanwhile.
    pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 << 10;
    /// Bytes of one connection that may be on their way unread.
    pub(crate) const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
    /// Bytes of one piece of a body. A small call waits at most for one of each other call.
    pub(crate) const FRAME_BYTES_MAX: u32 = 64 << 10;
    /// Bytes of a stream's HTTP head. Ours has three.
    pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 4 << 10;
}

/// Eight results of the largest size at once, or one of 128 KiB for each call that a connection may have in flight.
const ANSWERS_BYTES_MAX: usize = 8 * IMAGE_BYTES_MAX as usize;

/// The client's limits.
#[derive(Debug, Clone)]
pub struct PeerLimits {
    /// Calls in flight to one address. Further ones are refused as overloaded.
    pub calls_max: usize,
    /// Bytes of one result's image.
    pub image_bytes_max: usize,
    /// Bytes of all results' images that are being read, over all connections of a peer. A call whose answer finds no room is
    /// overloaded; it has run.
    pub answers_bytes_max: usize,
    /// For name, connection, TLS and HTTP/2 together; and no longer than the deadline of whoever waits.
    pub connect_timeout: Duration,
    /// The first pause after a failed attempt to connect. Each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How often a connection is asked whether it lives.
    pub keep_alive_interval: Duration,
    /// How long it may take to say so. Then it is made anew.
    pub keep_alive_timeout: Duration,
    /// Attempts at one call, the first one included.
    pub attempts_max: u32,
    /// The first pause before an idempotent call is tried again. Each further one is twice as long.
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
    /// Open connections. Further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Calls that are being read, run or answered, over all connections. Further ones are answered as overloaded, unread.
    pub calls_max: usize,
    /// Bytes of one call's image.
    pub image_bytes_max: usize,
    /// Bytes of the images of all calls that are being read or run. Calls beyond are answered as overloaded. As many again
    /// are for answers that are being written; one beyond is replaced by such a failure.
    pub images_bytes_max: usize,
    /// From a connection's beginning until TLS and HTTP/2 are agreed.
    pub handshake_timeout: Duration,
    /// Between two pieces of a call's body.
    pub body_timeout: Duration,
    /// From a call's beginning to its last byte; and no longer than its deadline.
    pub reading_timeout: Duration,
    /// Between two pieces of an answer that its reader takes, and after the call's deadline. Then its stream is reset.
    pub answer_timeout: Duration,
    /// How often a connection is asked whether it lives.
    pub keep_alive_interval: Duration,
    /// How long it may take to say so. Then it is closed.
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
