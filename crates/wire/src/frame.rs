//! Frames on a network connection. A frame consists of a head of one of two kinds ([`CallHead`](crate::CallHead),
//! [`ReplyHead`](crate::ReplyHead)) and a body. It is parsed as its bytes arrive.
//!
//! A [`FrameReader`] accepts pieces of any size and never holds more than the limits of head and body, whatever length
//! the sender announces. It reserves memory for the bytes that have arrived and a little more, not for the announced
//! length. For every way in which a frame can be invalid, [`FrameError`] has a variant that names the field.
//! `docs/reference/wire.md` describes both layouts, byte by byte.

/// The version of both kinds of heads, and the first byte of each head. A frame of another version is refused without
/// parsing the rest.
pub const VERSION: u8 = 2;

/// The maximum length of a trace context in bytes. Version 00 of W3C's format has 55 bytes, and later versions may have
/// more.
pub const TRACEPARENT_BYTES_MAX: usize = 128;

/// The maximum length of a failure's reason in bytes. A longer reason is truncated when it is sent.
pub const REASON_BYTES_MAX: usize = 4096;

/// The maximum remaining time of a call in microseconds: a day. A longer time is reduced when it is sent.
pub const REMAINING_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// The maximum number of bytes of memory that are reserved for a body before any byte of the body has arrived.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// The reasons why bytes are not a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The sender uses another version of the format.
    #[error("`version` is {found}, expected {VERSION}")]
    Version {
        /// The version in the head.
        found: u8,
    },
    /// Flags are set, but this version of the format defines no flags.
    #[error("`flags` is {found:#04x}, but this version defines no flags")]
    Flags {
        /// The flags in the head.
        found: u8,
    },
    /// The trace context is too long.
    #[error("`traceparent` has {bytes} bytes, at most {TRACEPARENT_BYTES_MAX} are allowed")]
    TraceparentTooLong {
        /// The size of the trace context in bytes.
        bytes: usize,
    },
    /// The trace context is not printable ASCII.
    #[error("`traceparent` is not printable ASCII")]
    Traceparent,
    /// The image is larger than the receiver allows.
    #[error("`image` has {bytes} bytes, at most {bytes_max} are allowed")]
    ImageTooLarge {
        /// The size of the image in bytes.
        bytes: usize,
        /// The maximum size that the receiver allows, in bytes.
        bytes_max: usize,
    },
    /// The remaining time is longer than allowed.
    #[error("`remaining` is {us} µs, at most {REMAINING_US_MAX} are allowed")]
    Remaining {
        /// The remaining time in the head, in microseconds.
        us: u64,
    },
    /// The request id in the head is 0, which is not a valid id.
    #[error("`request` is 0")]
    Request,
    /// The status code in the head of a reply is unknown.
    #[error("`status` is {found}, which is unknown")]
    Status {
        /// The status byte in the head.
        found: u8,
    },
    /// The error code in the head of a reply is unknown, or does not match the status of the reply.
    #[error("`error` is {found}, which does not match the status")]
    Error {
        /// The error byte in the head.
        found: u8,
    },
    /// The field `not_run` of a reply is not a boolean, or does not match the status.
    #[error("`not_run` is {found}, which does not match the status")]
    NotRun {
        /// The byte in the head.
        found: u8,
    },
    /// The reason for a failure is too long.
    #[error("`reason` has {bytes} bytes, at most {REASON_BYTES_MAX} are allowed")]
    ReasonTooLong {
        /// The size of the reason in bytes.
        bytes: usize,
    },
    /// The reason for a failure is not UTF-8.
    #[error("`reason` is not UTF-8")]
    Reason,
    /// The frame ends before the end of its head or body.
    #[error("the frame ends {missing} bytes before the end of its `{field}`")]
    Truncated {
        /// The part that is incomplete: `head`, `image` or `reason`.
        field: &'static str,
        /// The number of bytes that are missing from the part that `field` names. If the frame ends before the size of
        /// its head is known, the minimum size of a head is assumed.
        missing: usize,
    },
    /// More bytes follow the end of the frame.
    #[error("{bytes} bytes follow the end of the frame")]
    Trailing {
        /// The number of bytes that have arrived after the end of the frame.
        bytes: usize,
    },
}

/// The head of a frame: the head of a call or of a reply.
pub trait FrameHead: Sized {
    /// The size in bytes of the head's fixed part.
    const FIXED_BYTES: usize;

    /// Returns the size of the complete head in bytes, computed from its first [`FIXED_BYTES`](Self::FIXED_BYTES). The
    /// size is at least `FIXED_BYTES`, and has a maximum.
    ///
    /// # Errors
    /// If the version is not supported, or a length in the head exceeds its limit.
    fn measure(fixed: &[u8]) -> Result<usize, FrameError>;

    /// Parses a head. `head` has exactly the size that [`measure`](Self::measure) returned.
    ///
    /// # Errors
    /// If a field is invalid.
    fn parse(head: &[u8]) -> Result<Self, FrameError>;

    /// Returns the name of the body for error messages: `image` or `reason`.
    fn body_name(&self) -> &'static str;

    /// Returns the size of the body in bytes.
    fn body_bytes(&self) -> usize;

    /// Checks the size of the body against the limits of a receiver that accepts images of up to `image_bytes_max`
    /// bytes.
    ///
    /// # Errors
    /// If the body is too large.
    fn check_body(&self, image_bytes_max: usize) -> Result<(), FrameError>;
}

/// Parses a frame that arrives in pieces.
#[derive(Debug)]
pub struct FrameReader<H> {
    image_bytes_max: usize,
    /// The bytes of a head that is not complete yet. Empty after the head is complete.
    partial: Vec<u8>,
    head: Option<H>,
    body: Vec<u8>,
}

impl<H: FrameHead> FrameReader<H> {
    /// Creates a reader that accepts images of up to `image_bytes_max` bytes.
    pub fn new(image_bytes_max: usize) -> Self {
        Self { image_bytes_max, partial: Vec::new(), head: None, body: Vec::new() }
    }

    /// Returns the head of the frame if all its bytes have arrived.
    pub fn head(&self) -> Option<&H> {
        self.head.as_ref()
    }

    /// Parses the next bytes of the frame. The reader must not be used after an error.
    ///
    /// # Errors
    /// If the bytes so far cannot be the beginning of a valid frame.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while self.head.is_none() {
            if self.partial.is_empty() {
                // Optimization: the complete head nearly always arrives at once, and is then parsed in place.
                if let Some(size) = measured::<H>(bytes)?.filter(|size| *size <= bytes.len()) {
                    self.begin(&bytes[..size])?;
                    bytes = &bytes[size..];
                    continue;
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let wanted = measured::<H>(&self.partial)?.unwrap_or(H::FIXED_BYTES);
            let taken = bytes.len().min(wanted - self.partial.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if measured::<H>(&self.partial)? == Some(self.partial.len()) {
                let partial = std::mem::take(&mut self.partial);
                self.begin(&partial)?;
            }
        }
        let missing = self.missing();
        if bytes.len() > missing {
            return Err(FrameError::Trailing { bytes: bytes.len() - missing });
        }
        if self.body.capacity() == 0 {
            self.body.reserve_exact(missing.min(RESERVED_BYTES_MAX.max(bytes.len())));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let head = H::parse(bytes)?;
        head.check_body(self.image_bytes_max)?;
        self.head = Some(head);
        Ok(())
    }

    /// Returns the number of bytes of the body that have not arrived yet.
    fn missing(&self) -> usize {
        self.head.as_ref().map_or(0, H::body_bytes) - self.body.len()
    }

    /// Returns whether all bytes of the frame have arrived.
    pub fn is_complete(&self) -> bool {
        self.head.is_some() && self.missing() == 0
    }

    /// Returns the frame. Called when the sender has ended its stream.
    ///
    /// # Errors
    /// If the frame is incomplete.
    pub fn finish(self) -> Result<(H, Vec<u8>), FrameError> {
        let missing = self.missing();
        match self.head {
            Some(head) if missing > 0 => Err(FrameError::Truncated { field: head.body_name(), missing }),
            Some(head) => Ok((head, self.body)),
            None => {
                let wanted = measured::<H>(&self.partial)?.unwrap_or(H::FIXED_BYTES);
                Err(FrameError::Truncated { field: "head", missing: wanted - self.partial.len() })
            }
        }
    }
}

/// Returns the size of the head, if `bytes` are enough to determine it. An unsupported version is an error as soon as
/// the first byte has arrived.
fn measured<H: FrameHead>(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    match bytes.first() {
        Some(&found) if found != VERSION => Err(FrameError::Version { found }),
        _ if bytes.len() < H::FIXED_BYTES => Ok(None),
        _ => H::measure(&bytes[..H::FIXED_BYTES]).map(Some),
    }
}

/// Reads numbers and bytes from the front of a head whose size was checked.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let missing = count.saturating_sub(self.0.len());
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FrameError::Truncated { field: "head", missing })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.array::<1>()?[0])
    }
}
