//! Why a call has no answer.

/// What a caller can be told as a value: the cases of `isomer:link/types.call-error`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallError {
    /// The callee could not be reached, or the connection ended before the answer: it may have run or not.
    Unreachable = 0,
    /// The deadline passed: it may have run or not.
    Deadline = 1,
    /// The callee had no room, and did not run.
    Overloaded = 2,
    /// The other side does not take this call (another revision, an unknown function, a bad image), and it did not run; or
    /// its answer was none.
    Refused = 3,
}

/// Why a call has no answer, with words for the log. They never reach a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The callee trapped, which is a trap of the caller in every mode.
    #[error("the callee trapped: {reason}")]
    Trap {
        /// The trap's own words.
        reason: String,
        /// It trapped because a call of its own was lost like this: that is what the request at the beginning of the chain is
        /// told. No caller gets it as a value, as none would if the callee were fused to it.
        lost: Option<CallError>,
    },
    /// Nothing came back, for a reason that exists only where a seam is crossed.
    #[error("{reason}")]
    Lost {
        /// Which kind of reason.
        error: CallError,
        /// The reason.
        reason: String,
        /// Is it certain that the callee did not run?
        not_run: bool,
    },
}

impl CallFailure {
    /// The callee trapped, by itself.
    pub fn trap(reason: impl Into<String>) -> Self {
        Self::Trap { reason: reason.into(), lost: None }
    }

    /// How the call was lost, here or further down the chain; nothing for a plain trap.
    pub fn lost(&self) -> Option<CallError> {
        match self {
            Self::Trap { lost, .. } => *lost,
            Self::Lost { error, .. } => Some(*error),
        }
    }

    /// The callee had no room.
    pub fn overloaded(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Overloaded, reason: reason.into(), not_run: true }
    }

    /// The other side does not take the call.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Refused, reason: reason.into(), not_run: true }
    }

    /// The deadline passed.
    pub fn deadline(reason: impl Into<String>) -> Self {
        Self::Lost { error: CallError::Deadline, reason: reason.into(), not_run: false }
    }

    /// The callee could not be reached; `not_run` where the call certainly was not delivered.
    pub fn unreachable(reason: impl Into<String>, not_run: bool) -> Self {
        Self::Lost { error: CallError::Unreachable, reason: reason.into(), not_run }
    }
}
