//! A call as it is sent. The frame's head is encoded for each attempt, and all attempts share the encoded arguments.

use std::time::Instant as StdInstant;

use bytes::Bytes;
use isomer_wire::CallHead;
use tokio::time::Instant;

use crate::payload::Payload;

/// A call that has passed the checks of the client: its deadline is in the future and its head can be encoded.
#[derive(Debug)]
pub(crate) struct CallFrame {
    pub(crate) request: CallHead,
    pub(crate) deadline: StdInstant,
    pub(crate) image: Bytes,
}

impl CallFrame {
    /// Returns the frame's bytes. The head contains the time that remains until the deadline when this method is
    /// called.
    pub(crate) fn payload(&self) -> Payload {
        let remaining = self.deadline.saturating_duration_since(Instant::now().into_std());
        // The remaining time is shorter than when the client checked the call, so the checked head can still be
        // encoded.
        let request = CallHead { remaining: remaining.min(self.request.remaining), ..self.request.clone() };
        Payload::new(request.head_bytes(), self.image.clone(), |frame| {
            request.encode(frame).expect("the call was checked, and only its time became shorter");
        })
    }
}
