//! The head of a call's frame. In the frame, the image of the arguments follows the head.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_ids::PlanDigest;

use crate::call::{Call, CallContext};
use crate::frame::{Cursor, FrameError, FrameHead, REMAINING_US_MAX, TRACEPARENT_BYTES_MAX, VERSION};
use crate::function::FunctionKey;
use crate::image::IMAGE_BYTES_MAX;

/// A call without its arguments, as it is sent over a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHead {
    /// The key of the function to call.
    pub function: FunctionKey,
    /// The time until the call's deadline, in whole microseconds.
    pub remaining: Duration,
    /// The id of the request that the call belongs to; never 0.
    pub request: u64,
    /// The W3C trace context (`traceparent`), if the request has one.
    pub traceparent: Option<Arc<str>>,
    /// The digest of the plan that the caller was started with.
    pub plan: PlanDigest,
    /// The size in bytes of the arguments' image, which follows the head.
    pub image_bytes: u32,
}

impl CallHead {
    /// Returns the head of `call`. The remaining time is computed from `now`, and limited to
    /// [`REMAINING_US_MAX`].
    ///
    /// # Errors
    /// If a field has a value that the callee would refuse.
    pub fn of(call: &Call, now: Instant) -> Result<Self, FrameError> {
        let context = &call.context;
        let remaining = context.deadline.saturating_duration_since(now);
        let remaining_us = u64::try_from(remaining.as_micros()).unwrap_or(u64::MAX).min(REMAINING_US_MAX);
        let image_bytes = u32::try_from(call.image.len()).unwrap_or(u32::MAX);
        let request = Self {
            function: call.function,
            remaining: Duration::from_micros(remaining_us),
            request: context.request,
            traceparent: context.traceparent.clone(),
            plan: context.plan,
            image_bytes,
        };
        request.check()?;
        request.check_body(IMAGE_BYTES_MAX as usize)?;
        Ok(request)
    }

    /// Returns the call that consists of this head and `image`. Its deadline is computed from `now`.
    pub fn into_call(self, image: Vec<u8>, now: Instant) -> Call {
        let context = CallContext {
            deadline: now + self.remaining,
            request: self.request,
            traceparent: self.traceparent,
            plan: self.plan,
        };
        Call { function: self.function, context, is_idempotent: false, image }
    }

    /// Returns the size of this head in bytes.
    pub fn head_bytes(&self) -> usize {
        Self::FIXED_BYTES + text(&self.traceparent).len()
    }

    /// Appends this head to `frame`.
    ///
    /// # Errors
    /// If a field has a value that the callee would refuse. In this case, `frame` is unchanged.
    pub fn encode(&self, frame: &mut Vec<u8>) -> Result<(), FrameError> {
        self.check()?;
        let traceparent = text(&self.traceparent);
        frame.reserve(self.head_bytes());
        frame.extend_from_slice(&[VERSION, 0]);
        // The cast loses nothing, because `check` limits the length to 128.
        frame.extend_from_slice(&(traceparent.len() as u16).to_le_bytes());
        frame.extend_from_slice(&self.image_bytes.to_le_bytes());
        frame.extend_from_slice(&(self.remaining.as_micros() as u64).to_le_bytes());
        frame.extend_from_slice(&self.function.0);
        frame.extend_from_slice(&self.plan.0);
        frame.extend_from_slice(&self.request.to_le_bytes());
        frame.extend_from_slice(traceparent.as_bytes());
        Ok(())
    }

    /// Checks that the callee would accept every field.
    fn check(&self) -> Result<(), FrameError> {
        check_traceparent(text(&self.traceparent).as_bytes())?;
        let us = u64::try_from(self.remaining.as_micros()).unwrap_or(u64::MAX);
        if us > REMAINING_US_MAX {
            return Err(FrameError::Remaining { us });
        }
        if self.request == 0 {
            return Err(FrameError::Request);
        }
        Ok(())
    }
}

impl FrameHead for CallHead {
    const FIXED_BYTES: usize = 56;

    fn measure(fixed: &[u8]) -> Result<usize, FrameError> {
        let mut fixed = Cursor(fixed);
        let [version, flags] = fixed.array()?;
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        if flags != 0 {
            return Err(FrameError::Flags { found: flags });
        }
        let traceparent = usize::from(u16::from_le_bytes(fixed.array()?));
        if traceparent > TRACEPARENT_BYTES_MAX {
            return Err(FrameError::TraceparentTooLong { bytes: traceparent });
        }
        Ok(Self::FIXED_BYTES + traceparent)
    }

    fn parse(head: &[u8]) -> Result<Self, FrameError> {
        let mut rest = Cursor(head);
        let [_version, _flags] = rest.array()?;
        let traceparent_bytes = u16::from_le_bytes(rest.array()?);
        let image_bytes = u32::from_le_bytes(rest.array()?);
        let us = u64::from_le_bytes(rest.array()?);
        let function = FunctionKey(rest.array()?);
        let plan = PlanDigest(rest.array()?);
        let request = u64::from_le_bytes(rest.array()?);
        let traceparent = rest.bytes(usize::from(traceparent_bytes))?;
        check_traceparent(traceparent)?;
        let traceparent = std::str::from_utf8(traceparent).map_err(|_| FrameError::Traceparent)?;
        let request = Self {
            function,
            remaining: Duration::from_micros(us),
            request,
            traceparent: (!traceparent.is_empty()).then(|| Arc::from(traceparent)),
            plan,
            image_bytes,
        };
        request.check()?;
        Ok(request)
    }

    fn body_name(&self) -> &'static str {
        "image"
    }

    fn body_bytes(&self) -> usize {
        self.image_bytes as usize
    }

    fn check_body(&self, image_bytes_max: usize) -> Result<(), FrameError> {
        let (bytes, bytes_max) = (self.body_bytes(), image_bytes_max.min(IMAGE_BYTES_MAX as usize));
        if bytes > bytes_max { Err(FrameError::ImageTooLarge { bytes, bytes_max }) } else { Ok(()) }
    }
}

fn text(text: &Option<Arc<str>>) -> &str {
    text.as_deref().unwrap_or_default()
}

fn check_traceparent(bytes: &[u8]) -> Result<(), FrameError> {
    if bytes.len() > TRACEPARENT_BYTES_MAX {
        return Err(FrameError::TraceparentTooLong { bytes: bytes.len() });
    }
    if bytes.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(FrameError::Traceparent) }
}
