//! Frames: a head of one of the two kinds ([`CallHead`](crate::CallHead), [`ReplyHead`](crate::ReplyHead)) and a body behind it, read as the
//! bytes come.
//!
//! A [`FrameReader`] takes pieces of any size and never holds more than the head's and the body's limits allow, whatever the
//! sender says. It reserves memory for what has come and a little more, not for what was announced. Every way in which bytes can
//! be no frame is a variant of [`FrameError`] that names the field. `docs/reference/wire.md` has both layouts, byte by byte.

/// The version of both heads: the first byte of each. A frame of another version is refused unread.
pub const VERSION: u8 = 2;

/// The most bytes of a trace context. W3C's version 00 has 55; later ones may have more.
pub const TRACEPARENT_BYTES_MAX: usize = 128;

/// The most bytes of a reason. Longer ones are cut when they are sent.
pub const REASON_BYTES_MAX: usize = 4096;

/// The longest time that can be left to a call: a day. Longer ones are shortened when they are sent.
pub const REMAINING_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// How much is reserved for a body before any of it has come.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The sender speaks another version.
    #[error("`version` is {found}, this side speaks {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Flags are set that this version does not know.
    #[error("`flags` is {found:#04x}, this version knows none")]
    Flags {
        /// The flags found.
        found: u8,
    },
    /// The trace context is too long.
    #[error("`traceparent` has {bytes} bytes, at most {TRACEPARENT_BYTES_MAX} are taken")]
    TraceparentTooLong {
        /// Its size.
        bytes: usize,
    },
    /// The trace context is no printable ASCII.
    #[error("`traceparent` is not printable ASCII")]
    Traceparent,
    /// The image is larger than this side takes.
    #[error("`image` has {bytes} bytes, at most {bytes_max} are taken")]
    ImageTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More time is left than a call can have.
    #[error("`remaining` is {us} µs, at most {REMAINING_US_MAX} are taken")]
    Remaining {
        /// The time found, in microseconds.
        us: u64,
    },
    /// A request without its number.
    #[error("`request` is 0")]
    Request,
    /// An unknown kind of answer.
    #[error("`status` is {found}, which is none")]
    Status {
        /// The status found.
        found: u8,
    },
    /// An unknown error, or one where there should be none.
    #[error("`error` is {found}, which does not go with the status")]
    Error {
        /// The error found.
        found: u8,
    },
    /// Neither yes nor no, or one where there should be none.
    #[error("`not_run` is {found}, which does not go with the status")]
    NotRun {
        /// The value found.
        found: u8,
    },
    /// The reason is too long.
    #[error("`reason` has {bytes} bytes, at most {REASON_BYTES_MAX} are taken")]
    ReasonTooLong {
        /// Its size.
        bytes: usize,
    },
    /// The reason is no text.
    #[error("`reason` is not UTF-8")]
    Reason,
    /// The frame ends too early.
    #[error("the frame ends {missing} bytes before its `{field}` does")]
    Truncated {
        /// Where it ends: `head`, `image` or `reason`.
        field: &'static str,
        /// How many bytes are missing, as far as that is known.
        missing: usize,
    },
    /// There are bytes behind the body.
    #[error("{bytes} bytes follow the frame")]
    Trailing {
        /// How many there are, as far as they have come.
        bytes: usize,
    },
}

/// What stands in front of a body.
pub trait Head: Sized {
    /// The bytes that every head of this kind has.
    const FIXED_BYTES: usize;

    /// The bytes of the whole head, told by its first [`Head::FIXED_BYTES`], and nothing about the rest of them. At least
    /// [`Head::FIXED_BYTES`], and bounded.
    ///
    /// # Errors
    /// When its version is another one, or a length in it is beyond its limit.
    fn measure(fixed: &[u8]) -> Result<usize, FrameError>;

    /// Reads a head of exactly the measured bytes.
    ///
    /// # Errors
    /// When a field is none.
    fn parse(head: &[u8]) -> Result<Self, FrameError>;

    /// The body's name in errors.
    fn body_name(&self) -> &'static str;

    /// The bytes of the body.
    fn body_bytes(&self) -> usize;

    /// Is the body of that size taken, by a side that takes images of up to `image_bytes_max`?
    ///
    /// # Errors
    /// When it is not.
    fn check_body(&self, image_bytes_max: usize) -> Result<(), FrameError>;
}

/// Takes a frame in pieces.
#[derive(Debug)]
pub struct FrameReader<H> {
    image_bytes_max: usize,
    /// The bytes of an incomplete head; empty again when it is complete.
    partial: Vec<u8>,
    head: Option<H>,
    body: Vec<u8>,
}

impl<H: Head> FrameReader<H> {
    /// A reader that takes images of up to `image_bytes_max`.
    pub fn new(image_bytes_max: usize) -> Self {
        Self { image_bytes_max, partial: Vec::new(), head: None, body: Vec::new() }
    }

    /// The head, once it is complete.
    pub fn head(&self) -> Option<&H> {
        self.head.as_ref()
    }

    /// Takes the next bytes. After an error the reader is of no more use.
    ///
    /// # Errors
    /// As soon as the bytes cannot become a frame.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while self.head.is_none() {
            if self.partial.is_empty() {
                // Nearly always the whole head comes at once and is read where it lies.
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

    /// The bytes of the body that have not come.
    fn missing(&self) -> usize {
        self.head.as_ref().map_or(0, H::body_bytes) - self.body.len()
    }

    /// Is the frame complete?
    pub fn is_complete(&self) -> bool {
        self.head.is_some() && self.missing() == 0
    }

    /// The sender has ended: the frame.
    ///
    /// # Errors
    /// When it is incomplete.
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

/// The size of the head that begins with these bytes, if they say so already. Another version is told by the first byte alone.
fn measured<H: Head>(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    match bytes.first() {
        Some(&found) if found != VERSION => Err(FrameError::Version { found }),
        _ if bytes.len() < H::FIXED_BYTES => Ok(None),
        _ => H::measure(&bytes[..H::FIXED_BYTES]).map(Some),
    }
}

/// Takes numbers and bytes from the front of a head that was measured.
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
