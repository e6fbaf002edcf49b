//! The compiled code in the payload of this program.

use std::io::{self, Write};
use std::sync::Arc;

use isomer_parcel::exe::{CodeEntry, Payload, PayloadError};
use isomer_runtime::code::{Key, ShippedCode};

/// The compiled code in a payload.
pub(crate) struct PayloadCode(Arc<Payload>);

impl PayloadCode {
    pub(crate) fn new(payload: Arc<Payload>) -> Self {
        Self(payload)
    }

    fn entry(&self, key: &Key) -> Option<&CodeEntry> {
        self.0.index().code.get(key.as_str())
    }
}

#[expect(unsafe_code, reason = "compiled code is run as it is")]
// SAFETY: the payload is that of this program's own file. `Payload::copy` verifies the code against the digest in the index,
// and the index was verified against the digest in the locator, which is a part of this program. `isomer ship exe` writes the
// locator, and takes the code from `precompile`. An attacker who can change the code together with both digests can also change
// the program's own instructions.
unsafe impl ShippedCode for PayloadCode {
    fn note(&self, key: &Key) -> io::Result<Option<Vec<u8>>> {
        self.entry(key).map(|entry| self.0.read(&entry.note)).transpose().map_err(to_io)
    }

    fn copy_code(&self, key: &Key, sink: &mut dyn Write) -> io::Result<bool> {
        let Some(entry) = self.entry(key) else { return Ok(false) };
        self.0.copy(&entry.code, sink).map_err(to_io)?;
        Ok(true)
    }
}

fn to_io(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Read { source } | PayloadError::Write { source } => source,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
