//! The failures of calls across seams.

/// The failures that a caller can handle as a value: the cases of `isomer:link/types.call-error`, in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallError {
    /// The callee could not be reached, or the connection ended before the reply. The call may have run.
    Unreachable = 0,
    /// The deadline of the call passed. The call may have run.
    Deadline = 1,
    /// The callee was overloaded, or the memory for the call or its result was used up. The call may have run, unless
    /// the failure states that it did not.
    Overloaded = 2,
    /// The call was refused, for example because the callee's plan differs from the caller's, because the callee does
    /// not know the function, or because the image is invalid. A refused call did not run. The error is also used if
    /// the callee's reply was invalid or too large; in this case, the call may have run.
    Refused = 3,
}

/// The failure of a call. The reason is for the log, and is never sent to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The callee trapped. The caller then traps too, in every mode of the seam.
    #[error("the callee trapped: {reason}")]
    Trap {
        /// The message of the trap.
        reason: String,
        /// If the callee trapped because a call that it made has failed: the failure of that call. It is reported for
        /// the request that started the chain of calls, and no caller gets it as a value. Fused components behave in
        /// the same way.
        lost: Option<CallError>,
    },
    /// The call was lost: it ended without a result, for one of the reasons in [`CallError`]. Calls within one
    /// composition cannot be lost.
    #[error("{reason}")]
    Lost {
        /// The kind of failure, which the caller can handle as a value.
        error: CallError,
        /// Why the call was lost, as text for the log.
        reason: String,
        /// Whether it is certain that the call did not run.
        not_run: bool,
    },
}

impl CallFailure {
    /// Creates the failure of a call whose callee trapped, for any reason except that a call which the callee had made
    /// was lost.
    pub fn trap(reason: impl Into<String>) -> Self {
        Self::Trap { reason: reason.into(), lost: None }
    }

    /// Returns why the call was lost, or why a call that the callee made was lost. Returns `None` if the callee trapped
    /// for another reason.
    pub fn lost(&self) -> Option<CallError> {
        match self {
            Self::Trap { lost, .. } => *lost,
            Self::Lost { error, .. } => Some(*error),
        }
    }

    /// Creates the failure of a call that did not run because the callee was overloaded.
    pub fn overloaded(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Overloaded, reason: reason.into(), not_run: true }
    }

    /// Creates the failure of a call that the callee refused.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Refused, reason: reason.into(), not_run: true }
    }

    /// Creates the failure of a call whose deadline passed.
    pub fn deadline(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Deadline, reason: reason.into(), not_run: false }
    }

    /// Creates the failure of a call to an unreachable callee. `not_run` states whether it is certain that the call was
    /// not delivered.
    pub fn unreachable(reason: impl Into<String>, not_run: bool) -> Self {
        Self::Lost { error: CallError::Unreachable, reason: reason.into(), not_run }
    }
}
