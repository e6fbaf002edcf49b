//! The payload of this program.

use std::fs::File;
use std::sync::Arc;

use isomer_console::CliError;
use isomer_parcel::exe::{LOCATOR_BYTES, Locator, Payload, PayloadError, SECTION_BYTES};
use isomer_runtime::code::CodeArchive;

use crate::payload_code::PayloadCode;

/// The file of this program.
const OWN_FILE: &str = "/proc/self/exe";

const AGAIN: &str = "copy the program again from where it was made, or make it again: isomer ship exe";

/// The place of this program's payload, and the version of the runtime. The place is empty in a program without an app, and
/// `isomer ship exe` fills it in.
///
/// `strip` and similar tools keep the section, because it is loaded into memory. So a program that has lost its payload
/// still knows that it had one.
#[used]
#[expect(unsafe_code, reason = "the attribute is unsafe")]
// SAFETY: no other item of the program, and no convention of the linker, uses a section with this name. Its content has no
// meaning for the linker or the loader.
#[unsafe(link_section = ".isomer")]
static SECTION: [u8; SECTION_BYTES] = Locator::section(env!("CARGO_PKG_VERSION"));

/// The payload of this program.
pub(crate) struct OwnPayload(Arc<Payload>);

impl OwnPayload {
    /// Returns the payload.
    pub(crate) fn payload(&self) -> &Payload {
        &self.0
    }

    /// Returns the compiled code in the payload.
    pub(crate) fn code(&self) -> CodeArchive {
        CodeArchive::new(Arc::new(PayloadCode::new(self.0.clone())))
    }
}

/// Opens the payload of this program. Returns `None` if the program was not shipped with an app.
pub(crate) fn open() -> Option<Result<OwnPayload, CliError>> {
    #[expect(unsafe_code, reason = "the compiler must not assume that the locator has its initial value")]
    // SAFETY: the pointer comes from a static with this type, which is never written to.
    let bytes = unsafe { std::ptr::read_volatile(&raw const SECTION) };
    let bytes = bytes.first_chunk::<LOCATOR_BYTES>().unwrap_or(&Locator::EMPTY);
    let locator = match Locator::parse(bytes) {
        Ok(None) => return None,
        Ok(Some(locator)) => locator,
        Err(error) => return Some(Err(CliError::hinted(error, [AGAIN]))),
    };
    let opened = File::open(OWN_FILE).map_err(|source| PayloadError::Read { source });
    let payload = opened.and_then(|file| Payload::open(file, locator));
    Some(payload.map(|payload| OwnPayload(Arc::new(payload))).map_err(payload_error))
}

/// Converts the error of a payload, with a hint.
pub(crate) fn payload_error(error: PayloadError) -> CliError {
    match &error {
        PayloadError::Lost => CliError::hinted(
            error,
            [AGAIN, "do not run `strip` or other tools that rewrite programs: they drop the app"],
        ),
        PayloadError::Read { .. } => {
            CliError::hinted(error, ["the program reads its own file through /proc, which must be mounted"])
        }
        PayloadError::Write { .. } => error.into(),
        _ => CliError::hinted(error, [AGAIN]),
    }
}
