//! Why a response is cut off after its head was sent, other than by its handler or its client.

use std::time::Duration;

/// Why a response is cut off. Reported in the app's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interruption {
    /// The guest still sent at the deadline, or the client did not read.
    #[error("no response within the deadline of {} ms", allowed.as_millis())]
    Deadline {
        /// The time that the request had.
        allowed: Duration,
    },
    /// The guest's body is not as long as announced, or was not finished.
    #[error("the response is incomplete: {reason}")]
    Incomplete {
        /// What is wrong with it.
        reason: String,
    },
    /// A stream of events reached one of its limits.
    #[error("the event stream was ended: {reason}")]
    EventStream {
        /// Which limit.
        reason: String,
    },
}
