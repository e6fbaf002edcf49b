//! The kinds of failures that clients can tell apart.

use isomer_api::Quota;

/// The kinds of failures that clients can tell apart. The front door chooses the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request is not one that a handler can take.
    InvalidRequest,
    /// The request's body is larger than the handler takes.
    RequestBodyTooLarge,
    /// There was no response by the deadline.
    Deadline,
    /// All instances are busy, and as many requests wait as may.
    Overloaded,
    /// The tenant has used up a quota.
    Quota(Quota),
    /// A component that was called runs in another process, which could not be reached.
    Unreachable,
    /// The instance was lost while it ran the request, through no fault of the request.
    InstanceLost,
    /// No instance could be started.
    CannotStart,
    /// The app failed.
    Failed,
}
