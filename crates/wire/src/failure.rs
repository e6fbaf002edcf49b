//! Failures of calls.

/// The failures that a caller can handle as a value: the cases of `isomer:link/types.call-error`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallError {
    /// The callee could not be reached, or the connection ended before the reply. The call may have run.
    Unreachable = 0,
    /// The deadline of the call passed.
    Deadline = 1,
    /// The callee was overloaded. The call did not run.
    Overloaded = 2,
    /// The callee refused the call (another plan, an unknown function, an invalid image), and the call did not run; or
    /// its reply was invalid.
    Refused = 3,
}

/// The failure of a call, with a reason for the log that no client sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The callee trapped. In every mode, this is a trap of the caller.
    #[error("the callee trapped: {reason}")]
    Trap {
        /// The trap's message.
        reason: String,
        /// The failure of a call that the callee made, if that failure made the callee trap. It is reported for the
        /// request at the start of the chain. No caller gets it as a value, as would be the case if the callee were
        /// fused.
        lost: Option<CallError>,
    },
    /// The call was lost for a reason that a call within one process cannot have.
    #[error("{reason}")]
    Lost {
        /// The kind of failure.
        error: CallError,
        /// The reason.
        reason: String,
        /// Whether the call certainly did not run.
        not_run: bool,
    },
}

impl CallFailure {
    /// Creates a trap of the callee itself.
    pub fn trap(reason: impl Into<String>) -> Self {
        Self::Trap { reason: reason.into(), lost: None }
    }

    /// Returns the failure by which the call was lost, here or further down the chain; `None` for a plain trap.
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

    /// Creates the failure of a call to an unreachable callee. `not_run` states that the call certainly was not
    /// delivered.
    pub fn unreachable(reason: impl Into<String>, not_run: bool) -> Self {
        Self::Lost { error: CallError::Unreachable, reason: reason.into(), not_run }
    }
}
