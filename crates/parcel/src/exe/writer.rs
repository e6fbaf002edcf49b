//! Writing a shipped program. The same contents and the same base give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;
use isomer_ids::Digest;
use sha2::{Digest as _, Sha256};

use super::base::Base;
use super::index::{CodeEntry, ExeIndex, PartPlace};
use super::locator::Locator;
use crate::digest::release_digest;
use crate::{Contents, add_part};

/// The payload begins at a multiple of this number of bytes.
const PAYLOAD_ALIGNMENT: u64 = 4 << 10;

/// The contents of a shipped program.
#[derive(Debug, Clone)]
pub struct ExeContents {
    /// The release and the bytes of its parts.
    pub contents: Contents,
    /// The version of Isomer.
    pub isomer: String,
    /// The target for which the code is compiled.
    pub target: String,
    /// The compiled code, by key.
    pub code: BTreeMap<String, ShippedCodePart>,
    /// The SBOM.
    pub sbom: Option<Bytes>,
}

/// The compiled code of a group, and the note about it.
#[derive(Debug, Clone)]
pub struct ShippedCodePart {
    /// The code.
    pub code: Bytes,
    /// The note.
    pub note: Bytes,
}

/// Writes a program that consists of `base` and a payload. Returns its length in bytes.
///
/// # Errors
/// If writing fails, or if the contents exceed the limits of the format.
///
/// # Panics
/// Never: the index is plain data.
pub fn write_exe(base: &Base, exe: ExeContents, out: &mut dyn Write) -> io::Result<u64> {
    let ExeContents { contents: Contents { release, mut parts }, isomer, target, code, sbom } = exe;
    let mut add = |bytes: Bytes| add_part(&mut parts, bytes).digest;
    let sbom = sbom.map(&mut add);
    let code = code.into_iter().map(|(key, ShippedCodePart { code, note })| {
        let entry = CodeEntry { code: add(code), note: add(note) };
        (key, entry)
    });
    let code = code.collect();
    let mut places: BTreeMap<Digest, PartPlace> = BTreeMap::new();
    let mut parts_bytes = 0_u64;
    for (digest, content) in &parts {
        let bytes = content.len() as u64;
        places.insert(digest.clone(), PartPlace { offset: parts_bytes, bytes });
        parts_bytes += bytes;
    }
    let digest = release_digest(&release);
    let index = ExeIndex { isomer, target, digest, release, sbom, code, parts: places };
    index.check(parts_bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let index = serde_json::to_vec(&index).expect("an index is plain data");
    let locator = Locator {
        offset: base.len().next_multiple_of(PAYLOAD_ALIGNMENT),
        bytes: parts_bytes + index.len() as u64,
        index_bytes: index.len() as u64,
        index_digest: Sha256::digest(&index).into(),
    };
    if Locator::parse(&locator.to_bytes()) != Ok(Some(locator)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the index of the app is too long"));
    }
    out.write_all(&base.with_locator(&locator))?;
    let padding = usize::try_from(locator.offset - base.len()).unwrap_or_default();
    out.write_all(&vec![0; padding])?;
    for content in parts.values() {
        out.write_all(content)?;
    }
    out.write_all(&index)?;
    Ok(locator.end())
}
