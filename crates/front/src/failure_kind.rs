//! The kinds of handler failures that clients can distinguish.

use isomer_api::Quota;

/// The kind of a handler's failure, as clients can distinguish it. The front door derives the HTTP status from the
/// kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The handler refused the request as invalid.
    InvalidRequest,
    /// The request's body is larger than the handler accepts.
    RequestBodyTooLarge,
    /// The handler did not respond by the deadline.
    Deadline,
    /// All instances are busy, and the queue of waiting requests is full.
    Overloaded,
    /// The tenant has used up a quota.
    Quota(Quota),
    /// A called component runs in another process, which cannot be reached.
    Unreachable,
    /// The instance was lost while it ran the request, but not because of the request.
    InstanceLost,
    /// No instance could be started.
    CannotStart,
    /// The app itself failed.
    Failed,
}
