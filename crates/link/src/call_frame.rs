//! A call as it is sent. Its head is encoded for each attempt; the encoded arguments are shared by all attempts.

use std::time::Instant as StdInstant;

use bytes::Bytes;
use isomer_wire::CallHead;
use tokio::time::Instant;

use crate::payload::Payload;

/// A call that was checked.
#[derive(Debug)]
pub(crate) struct CallFrame {
    pub(crate) request: CallHead,
    pub(crate) deadline: StdInstant,
    pub(crate) image: Bytes,
}

impl CallFrame {
    /// Returns the bytes to send now. The head has the time that is left now.
    pub(crate) fn payload(&self) -> Payload {
        let remaining = self.deadline.saturating_duration_since(Instant::now().into_std());
        // The time that is left has become shorter since the check.
        let request = CallHead { remaining: remaining.min(self.request.remaining), ..self.request.clone() };
        Payload::new(request.head_bytes(), self.image.clone(), |frame| {
            request.encode(frame).expect("the call was checked, and only its time became shorter");
        })
    }
}
