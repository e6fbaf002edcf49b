//! The reasons why the front door cuts off a response after its head was sent. Failures of handlers and clients have
//! their own types.

use std::time::Duration;

/// The reason why a response is cut off. Reported in the app's log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interruption {
    /// The response was not complete by the deadline, because the guest was still sending or the client did not read.
    #[error("no response within the deadline of {} ms", allowed.as_millis())]
    Deadline {
        /// The time from the request's arrival to its deadline.
        allowed: Duration,
    },
    /// The length of the guest's body differs from the announced length, or the guest did not finish the body.
    #[error("the response is incomplete: {reason}")]
    Incomplete {
        /// What is wrong with the body.
        reason: String,
    },
    /// A stream of server-sent events reached one of its limits.
    #[error("the event stream was ended: {reason}")]
    EventStream {
        /// The limit that was reached.
        reason: String,
    },
}
