//! The head of a reply's frame. In the frame, the head is followed by the image of the result, or by the reason for the
//! failure.

use crate::call::CallResult;
use crate::failure::{CallError, CallFailure};
use crate::frame::{Cursor, FrameError, FrameHead, REASON_BYTES_MAX, VERSION};
use crate::image::IMAGE_BYTES_MAX;

/// The kind of a reply: a result or a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyStatus {
    /// The call returned a result. The body is the image of the result.
    Ok,
    /// The callee trapped. The body is the reason.
    Trap {
        /// The failure of a call that the callee made itself, if that failure made the callee trap.
        lost: Option<CallError>,
    },
    /// The call was lost. The body is the reason.
    Lost {
        /// The kind of failure, which the caller can handle as a value.
        error: CallError,
        /// Whether it is certain that the call did not run.
        not_run: bool,
    },
}

/// A reply without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHead {
    /// The kind of the reply.
    pub status: ReplyStatus,
    /// The size of the body in bytes.
    pub body_bytes: u32,
}

impl ReplyHead {
    /// Returns the head of a reply, and the body to send after it. A reason longer than
    /// [`REASON_BYTES_MAX`] is truncated. An image larger than [`IMAGE_BYTES_MAX`]
    /// becomes a failure.
    pub fn of(result: CallResult) -> (Self, Vec<u8>) {
        let (status, body) = match result {
            Ok(image) if image.len() > IMAGE_BYTES_MAX as usize => {
                let bytes = image.len();
                let reason = format!("the result has {bytes} bytes, at most {IMAGE_BYTES_MAX} are allowed");
                (ReplyStatus::Lost { error: CallError::Refused, not_run: false }, reason.into_bytes())
            }
            Ok(image) => (ReplyStatus::Ok, image),
            Err(CallFailure::Trap { reason, lost }) => (ReplyStatus::Trap { lost }, cut(reason)),
            Err(CallFailure::Lost { error, reason, not_run }) => (ReplyStatus::Lost { error, not_run }, cut(reason)),
        };
        // The cast loses nothing, because both kinds of bodies have limits far below `u32::MAX`.
        (Self { status, body_bytes: body.len() as u32 }, body)
    }

    /// Returns the result or failure that this head and `body` represent.
    ///
    /// # Errors
    /// If `body` is a failure's reason and is not UTF-8.
    pub fn into_result(self, body: Vec<u8>) -> Result<CallResult, FrameError> {
        let reason = |body| String::from_utf8(body).map_err(|_| FrameError::Reason);
        Ok(match self.status {
            ReplyStatus::Ok => Ok(body),
            ReplyStatus::Trap { lost } => Err(CallFailure::Trap { reason: reason(body)?, lost }),
            ReplyStatus::Lost { error, not_run } => Err(CallFailure::Lost { error, reason: reason(body)?, not_run }),
        })
    }

    /// Returns the encoded head.
    pub fn encode(&self) -> [u8; Self::FIXED_BYTES] {
        let [status, error, not_run] = match self.status {
            ReplyStatus::Ok => [0, 0, 0],
            ReplyStatus::Trap { lost } => [1, lost.map_or(0, number), 0],
            ReplyStatus::Lost { error, not_run } => [2, number(error), u8::from(not_run)],
        };
        let [a, b, c, d] = self.body_bytes.to_le_bytes();
        [VERSION, status, error, not_run, a, b, c, d]
    }
}

impl FrameHead for ReplyHead {
    const FIXED_BYTES: usize = 8;

    fn measure(fixed: &[u8]) -> Result<usize, FrameError> {
        match Cursor(fixed).u8()? {
            VERSION => Ok(Self::FIXED_BYTES),
            found => Err(FrameError::Version { found }),
        }
    }

    fn parse(head: &[u8]) -> Result<Self, FrameError> {
        let mut rest = Cursor(head);
        let [_, status, error, not_run] = rest.array()?;
        let body_bytes = u32::from_le_bytes(rest.array()?);
        let lost = match error {
            0 => None,
            1 => Some(CallError::Unreachable),
            2 => Some(CallError::Deadline),
            3 => Some(CallError::Overloaded),
            4 => Some(CallError::Refused),
            found => return Err(FrameError::Error { found }),
        };
        let status = match (status, lost) {
            (0, None) => ReplyStatus::Ok,
            (1, lost) => ReplyStatus::Trap { lost },
            (2, Some(error)) => ReplyStatus::Lost { error, not_run: not_run == 1 },
            (0 | 2, _) => return Err(FrameError::Error { found: error }),
            (found, _) => return Err(FrameError::Status { found }),
        };
        if not_run > u8::from(matches!(status, ReplyStatus::Lost { .. })) {
            return Err(FrameError::NotRun { found: not_run });
        }
        Ok(Self { status, body_bytes })
    }

    fn body_name(&self) -> &'static str {
        if self.status == ReplyStatus::Ok { "image" } else { "reason" }
    }

    fn body_bytes(&self) -> usize {
        self.body_bytes as usize
    }

    fn check_body(&self, image_bytes_max: usize) -> Result<(), FrameError> {
        let bytes = self.body_bytes();
        let bytes_max = image_bytes_max.min(IMAGE_BYTES_MAX as usize);
        match self.status {
            ReplyStatus::Ok if bytes > bytes_max => Err(FrameError::ImageTooLarge { bytes, bytes_max }),
            ReplyStatus::Ok => Ok(()),
            _ if bytes > REASON_BYTES_MAX => Err(FrameError::ReasonTooLong { bytes }),
            _ => Ok(()),
        }
    }
}

/// Returns the number of `error` on the wire. The number 0 means no error.
fn number(error: CallError) -> u8 {
    error as u8 + 1
}

/// Returns the bytes of a reason, truncated to the maximum length that is sent.
fn cut(mut reason: String) -> Vec<u8> {
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or_default());
    }
    reason.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_keeps_the_lost_call_that_caused_it() {
        let errors = [CallError::Unreachable, CallError::Deadline, CallError::Overloaded, CallError::Refused];
        for lost in errors.map(Some).into_iter().chain([None]) {
            let trap = CallFailure::Trap { reason: "unreachable".to_owned(), lost };
            let (head, body) = ReplyHead::of(Err(trap.clone()));
            let read = ReplyHead::parse(&head.encode()).unwrap();
            assert_eq!(read.into_result(body).unwrap(), Err(trap));
        }
        let bytes = |status, error| [VERSION, status, error, 0, 0, 0, 0, 0];
        assert_eq!(ReplyHead::parse(&bytes(1, 5)), Err(FrameError::Error { found: 5 }));
        assert_eq!(ReplyHead::parse(&bytes(0, 1)), Err(FrameError::Error { found: 1 }));
    }
}
