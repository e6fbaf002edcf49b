//! The kinds of failures that clients can tell apart.

use isomer_api::Quota;

/// The kinds of failures that clients can tell apart. The front door chooses the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The handler cannot process such a request.
    InvalidRequest,
    /// The request's body is larger than the handler accepts.
    RequestBodyTooLarge,
    /// There was no response by the deadline.
    Deadline,
    /// All instances are busy, and the queue of waiting requests is full.
    Overloaded,
    /// The tenant has used up a quota.
    Quota(Quota),
    /// A component that was called runs in another process, and that process could not be reached.
    Unreachable,
    /// The instance was lost while it ran the request, and the request did not cause the loss.
    InstanceLost,
    /// No instance could be started.
    CannotStart,
    /// The app failed.
    Failed,
}
