//! The files of a browser group, as the code cache stores them: as a note under a key of their own.
//!
//! The files are made and compressed once, when a package is made. A started revision reads them from the cache and keeps
//! them in memory, charged to its tenant.
//!
//! A note begins with the length of its header in four bytes (little endian). The header is JSON and lists the files; the
//! contents of the files follow, in the same order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use isomer_front::gateway::static_files::FILES_BYTES_MAX;
use isomer_front::gateway::{NewStaticFile, StaticFiles};
use isomer_ids::{ComponentName, PlanDigest};
use isomer_manifest::App;
use isomer_plan::PlannedBrowser;
use isomer_runtime::code::{CodeSource, Key};
use isomer_runtime::{Account, HostMemory};
use isomer_seam::Components;
use isomer_web::WebParcel;
use serde::{Deserialize, Serialize};

use crate::error::RevisionError;
use crate::web_files_error::WebFilesError;

/// The version of the format of notes. Increment it with each change of the format.
pub(crate) const FILES_MADE_AS: &[u8] = b"web files 2";

/// The maximum size of a note's header in bytes.
const HEADER_BYTES_MAX: usize = 256 << 10;

/// The maximum size of a note in bytes: all files and their compressed copies.
pub const NOTE_BYTES_MAX: usize = 2 * FILES_BYTES_MAX + HEADER_BYTES_MAX + size_of::<u32>();

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    digest: String,
    entry: String,
    files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileEntry {
    name: String,
    content_type: String,
    bytes: usize,
    /// The length of the compressed content, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gzip: Option<usize>,
}

/// Returns the key of a browser group's files, which `key` makes from everything that determines the files.
pub(crate) fn key(
    app: &App,
    browser: &PlannedBrowser,
    plan: PlanDigest,
    digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
    key: impl FnOnce(&[&[u8]]) -> Key,
) -> Key {
    let decisions = serde_json::to_vec(browser).expect("a planned group is plain data");
    let (generator, settings) = (isomer_web::generator_digest(), isomer_web::settings(app, &browser.group));
    let mut ingredients =
        vec![FILES_MADE_AS, generator.as_str().as_bytes(), &plan.0, decisions.as_slice(), settings.as_bytes()];
    ingredients.extend(browser.group.components.iter().filter_map(|name| digests.get(name)).map(AsRef::as_ref));
    key(&ingredients)
}

/// Returns whether the cache has valid files under `key`.
pub(crate) fn is_valid(cache: &CodeSource, key: &Key) -> bool {
    cache.note(key).is_some_and(|note| decode(note.into()).is_ok())
}

/// Stores a note in the cache.
///
/// # Errors
/// If the cache cannot be written.
pub(crate) fn store(cache: &CodeSource, key: &Key, note: &[u8]) -> Result<(), WebFilesError> {
    cache.write_note(key, note).map_err(|source| WebFilesError::Store { source })
}

/// Makes the files of a browser group, as a note.
///
/// # Errors
/// If the group cannot be composed, or cannot run in a browser.
pub(crate) fn make(
    app: &App,
    browser: &PlannedBrowser,
    components: &Components,
    plan: PlanDigest,
) -> Result<Vec<u8>, RevisionError> {
    let group = &browser.group;
    let composed = isomer_seam::compose(group, components)
        .map_err(|source| RevisionError::Compose { group: group.name.clone(), source })?;
    let failed = |source: WebFilesError| RevisionError::web_files(browser, source);
    let parcel = WebParcel::make(app, group, &composed, plan).map_err(|error| failed(error.into()))?;
    let note = encode(parcel);
    // The limits are checked now and not at the start, when the app is already deployed.
    decode(note.clone().into()).map_err(failed)?;
    Ok(note)
}

fn encode(parcel: WebParcel) -> Vec<u8> {
    let files = parcel
        .files
        .into_iter()
        .map(|(name, file)| NewStaticFile::compressed(name, file.bytes.into(), file.content_type.to_owned()));
    let files: Vec<_> = files.collect();
    let entry = |file: &NewStaticFile| FileEntry {
        name: file.name.clone(),
        content_type: file.content_type.clone(),
        bytes: file.bytes.len(),
        gzip: file.gzip.as_ref().map(Bytes::len),
    };
    let header = Header {
        digest: parcel.digest.to_string(),
        entry: parcel.entry.to_owned(),
        files: files.iter().map(entry).collect(),
    };
    let header = serde_json::to_vec(&header).expect("a header is plain data");
    let mut note = u32::try_from(header.len()).expect("a header is short").to_le_bytes().to_vec();
    note.extend_from_slice(&header);
    for file in &files {
        note.extend_from_slice(&file.bytes);
        note.extend_from_slice(file.gzip.as_deref().unwrap_or_default());
    }
    note
}

/// Returns the files in a note.
///
/// # Errors
/// If the note is damaged, or if the files exceed a limit.
pub(crate) fn decode(mut note: Bytes) -> Result<StaticFiles, WebFilesError> {
    let mut take = |bytes: usize| {
        if bytes > note.len() { Err(WebFilesError::Missing) } else { Ok(note.split_to(bytes)) }
    };
    let length = take(size_of::<u32>())?;
    let length = u32::from_le_bytes(length[..].try_into().expect("four bytes were taken"));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > HEADER_BYTES_MAX {
        return Err(WebFilesError::Missing);
    }
    let header = take(length)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| WebFilesError::Missing)?;
    let mut files = Vec::new();
    for FileEntry { name, content_type, bytes, gzip } in header.files {
        let bytes = take(bytes)?;
        let gzip = gzip.map(&mut take).transpose()?;
        files.push(NewStaticFile { name, bytes, gzip, content_type });
    }
    Ok(StaticFiles::new(&header.digest, &header.entry, files)?)
}

/// Loads files from the cache, and charges them to `account`.
///
/// # Errors
/// If the files are not in the cache, or if the account has no memory left.
pub(crate) fn load(
    cache: &CodeSource,
    key: &Key,
    account: &Arc<Account>,
) -> Result<(StaticFiles, HostMemory), WebFilesError> {
    let note = cache.note(key).ok_or(WebFilesError::Missing)?;
    let memory = account.charge_host_memory(note.len()).map_err(|_| WebFilesError::Memory)?;
    Ok((decode(note.into())?, memory))
}

#[cfg(test)]
mod tests {
    use isomer_ids::Digest;
    use isomer_web::WebFile;

    use super::*;

    fn note() -> Vec<u8> {
        let file = |text: &str| WebFile { bytes: text.as_bytes().to_vec(), content_type: "text/javascript" };
        let long = "let a = 1;\n".repeat(100);
        let files = BTreeMap::from([("a.js".to_owned(), file(&long)), ("worker.js".to_owned(), file("1"))]);
        encode(WebParcel { digest: Digest::from([7; 32]), files, entry: "worker.js" })
    }

    #[test]
    fn a_note_contains_the_files() {
        let files = decode(note().into()).unwrap();
        let digest = "07".repeat(32);
        assert_eq!(files.digest(), digest);
        let file = files.file(&digest, "a.js", &http::HeaderMap::new()).unwrap();
        assert!(file.body().starts_with(b"let a = 1;\n") && file.body().len() == 1100);
        let accepting = http::HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, "gzip".parse().unwrap())]);
        assert!(files.file(&digest, "a.js", &accepting).unwrap().body().starts_with(&[0x1f, 0x8b]));
    }

    #[test]
    fn a_damaged_note_is_refused() {
        let note = note();
        for length in [0, 3, 4, 40, note.len() - 1] {
            assert!(decode(note[..length].to_vec().into()).is_err(), "{length}");
        }
        for (at, byte) in [(3, 0xff), (4, b'['), (1, 0xff)] {
            let mut note = note.clone();
            note[at] = byte;
            assert!(decode(note.into()).is_err(), "{at}");
        }
    }
}
