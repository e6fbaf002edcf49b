//! A call on its way to the connection that takes it: its head is written for each attempt, its image is shared by all.

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
    /// The bytes to send now: the other side is told of the time that is left now.
    pub(crate) fn payload(&self) -> Payload {
        let remaining = self.deadline.saturating_duration_since(Instant::now().into_std());
        // Less than it was when it was checked.
        let request = CallHead { remaining: remaining.min(self.request.remaining), ..self.request.clone() };
        Payload::new(request.head_bytes(), self.image.clone(), |frame| {
            request.encode(frame).expect("the call was checked, and only its time became shorter");
        })
    }
}
