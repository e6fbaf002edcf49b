//! The format of a shipped program: an app and its runtime in one executable file.
//!
//! ```text
//! base ········ the runtime: an ELF program with a section `.isomer`, which holds the locator
//! padding ····· zeros, up to a multiple of 4 KiB
//! payload ····· the parts (components, files, notes, compiled code, SBOM), one after another
//!               the index: JSON that names each part by the SHA-256 of its bytes
//! ```
//!
//! The [`Locator`] contains the place of the payload and the SHA-256 of the index. It is in a section of the program,
//! so the running program knows whether it was shipped with an app, even if the payload was removed: `strip` keeps the
//! section, but drops bytes that belong to no section. Bytes that another program appends to the file are ignored.
//!
//! A trailer at the end of the file, in place of the locator, was rejected. Without its trailer, the program would be a
//! valid runtime without an app, so a missing payload could not be reported. A single appended byte would hide the
//! payload.
//!
//! The digests detect damage and mix-ups. They are not a signature: anyone who changes the payload can also change the
//! locator.

mod base;
mod index;
mod locator;
mod payload;
mod program;
mod writer;

pub use base::{Base, BaseError, Machine};
pub use index::{CodeEntry, ExeIndex, InvalidIndex, PartPlace};
pub use locator::{InvalidLocator, LOCATOR_BYTES, Locator, SECTION, SECTION_BYTES};
pub use payload::{Payload, PayloadError};
pub use program::{ProgramError, VerifiedProgram};
pub use writer::{ExeContents, ShippedCodePart, write_exe};
