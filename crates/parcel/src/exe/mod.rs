//! The format of a shipped program: an app and its runtime in one executable file.
//!
//! ```text
//! base ········ the runtime: an ELF program with a section `.isomer`, which holds the locator
//! padding ····· zeros, up to a multiple of 4 KiB
//! payload ····· the parts (components, files, notes, compiled code, SBOM), one after another
//!               the index: JSON that names each part by the SHA-256 of its bytes
//! ```
//!
//! The [`Locator`] contains the place of the payload and the SHA-256 of the index. It is a part of the program's own data, so
//! the running program knows whether it was shipped with an app, even if the payload was lost: `strip` keeps the section,
//! but drops bytes that no section contains. Bytes that another program appends to the file do no harm.
//!
//! A trailer at the end of the file, in place of the locator, was rejected: a program without its trailer is a valid program
//! of another kind, so a lost payload could not be reported, and a single appended byte would hide the payload.
//!
//! The digests are a checksum against damage and mix-ups, not a signature: the author of a changed file can also change the
//! locator. Such a file is another program.

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
