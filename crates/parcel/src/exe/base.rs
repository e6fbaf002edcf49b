//! The base of a shipped program: the runtime that the payload is appended to.

use std::fmt;
use std::ops::Range;

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

use super::locator::{LOCATOR_BYTES, Locator, SECTION, SECTION_BYTES};

/// A runtime without an app.
#[derive(Clone)]
pub struct Base {
    bytes: Vec<u8>,
    machine: Machine,
    is_static: bool,
    payload: Option<Locator>,
    isomer: String,
    /// The byte range of the locator in `bytes`.
    locator: Range<usize>,
}

/// The architecture of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Machine {
    /// Returns the architecture of this program; `None` if no code can be compiled for it.
    #[must_use]
    pub fn of_this_program() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// The reason why a file is not the base of a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The file is not a 64-bit little-endian ELF program.
    #[error("it is not a 64-bit program for Linux")]
    NotElf,
    /// The program is for an architecture for which no code can be compiled.
    #[error("it is a program for another architecture (ELF machine {0})")]
    Machine(u16),
    /// The program has no locator.
    #[error("it has no section `{SECTION}`, so it is not a runtime of Isomer")]
    NoLocator,
    /// The locator is damaged.
    #[error("the section `{SECTION}` was written by another version of Isomer")]
    Locator,
}

impl Base {
    /// Parses a program. If the program has a payload, the base is the program without it, and [`Base::payload`]
    /// returns the place of the payload.
    ///
    /// # Errors
    /// If the program is not a runtime of this version of Isomer.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, BaseError> {
        let Program { machine, is_static, section } = read(&bytes)?;
        let found = bytes.get(section.clone()).and_then(|found| found.split_first_chunk::<LOCATOR_BYTES>());
        let (locator, version) = found.ok_or(BaseError::NoLocator)?;
        let payload = Locator::parse(locator).map_err(|_| BaseError::Locator)?;
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        let isomer = String::from_utf8(version.to_vec()).map_err(|_| BaseError::Locator)?;
        let locator = section.start..section.start + LOCATOR_BYTES;
        if let Some(Locator { offset, .. }) = payload {
            bytes.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
            bytes.get_mut(locator.clone()).ok_or(BaseError::Locator)?.copy_from_slice(&Locator::EMPTY);
        }
        Ok(Self { bytes, machine, is_static, payload, isomer, locator })
    }

    /// Returns the architecture of the program.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns whether the program runs without shared libraries.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.is_static
    }

    /// Returns the place of the payload in the file that was parsed.
    #[must_use]
    pub fn payload(&self) -> Option<Locator> {
        self.payload
    }

    /// Returns the version of the runtime.
    #[must_use]
    pub fn isomer(&self) -> &str {
        &self.isomer
    }

    /// Returns the length of the program in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns whether the program has no bytes. Always `false` for a parsed program.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the program with its empty locator replaced by `locator`.
    pub(super) fn with_locator(&self, locator: &Locator) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(place) = bytes.get_mut(self.locator.clone()) {
            place.copy_from_slice(&locator.to_bytes());
        }
        bytes
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").field("bytes", &self.bytes.len()).field("machine", &self.machine).finish()
    }
}

/// The properties of a program.
struct Program {
    machine: Machine,
    is_static: bool,
    /// The place of the section `.isomer`.
    section: Range<usize>,
}

fn read(bytes: &[u8]) -> Result<Program, BaseError> {
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(|_| BaseError::NotElf)?;
    let endian = header.endian().map_err(|_| BaseError::NotElf)?;
    if endian != Endianness::Little {
        return Err(BaseError::NotElf);
    }
    let machine = match header.e_machine(endian) {
        EM_X86_64 => Machine::X86_64,
        EM_AARCH64 => Machine::Aarch64,
        other => return Err(BaseError::Machine(other)),
    };
    // Only programs with shared libraries have a segment that names the dynamic loader.
    let segments = header.program_headers(endian, bytes).map_err(|_| BaseError::NotElf)?;
    let is_static = segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP);
    let sections = header.sections(endian, bytes).map_err(|_| BaseError::NoLocator)?;
    for section in sections.iter() {
        if sections.section_name(endian, section).ok() != Some(SECTION.as_bytes()) {
            continue;
        }
        let place = section.file_range(endian).and_then(|(offset, length)| {
            let start = usize::try_from(offset).ok()?;
            (length >= SECTION_BYTES as u64).then_some(start..start.checked_add(SECTION_BYTES)?)
        });
        let section = place.filter(|place| place.end <= bytes.len()).ok_or(BaseError::NoLocator)?;
        return Ok(Program { machine, is_static, section });
    }
    Err(BaseError::NoLocator)
}
