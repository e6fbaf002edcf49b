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
use isomer_runtime::engine::Engine;
use isomer_runtime::{Account, HostMemory};
use serde::{Deserialize, Serialize};

use crate::web_files_error::WebFilesError;

/// The version of the format of notes. Increment it with each change of the format.
const FILES_MADE_AS: &[u8] = b"web files 2";

/// The maximum size of a note's header in bytes.
const HEADER_BYTES_MAX: usize = 256 << 10;

/// The maximum size of a note in bytes: all files and their compressed copies.
pub const NOTE_BYTES_MAX: usize = 2 * FILES_BYTES_MAX + HEADER_BYTES_MAX + size_of::<u32>();

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) digest: String,
    pub(crate) entry: String,
    pub(crate) files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) bytes: usize,
    /// The length of the compressed content, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gzip: Option<usize>,
}

/// Returns the key of a browser group's files in `source`. In a cache, it includes the generator and all settings of the
/// manifest on which the files depend, so that the files are made again when one of them changes.
pub(crate) fn key_in(
    source: &CodeSource,
    engine: &Engine,
    app: &App,
    browser: &PlannedBrowser,
    plan: PlanDigest,
    digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
) -> Key {
    match source {
        #[cfg(feature = "compiler")]
        CodeSource::Cache(_) => {
            let (generator, settings) = (isomer_web::generator_digest(), isomer_web::settings(app, &browser.group));
            let makers = [generator.as_str().as_bytes(), settings.as_bytes()];
            let key = |ingredients: &[&[u8]]| source.key(engine, ingredients.iter().copied());
            with_ingredients(browser, plan, digests, makers, key)
        }
        _ => {
            let _ = (engine, app);
            shipped_key(browser, plan, digests)
        }
    }
}

/// Returns the key of a browser group's files in a shipped program. Neither the generator nor the settings are included: they
/// are those with which the program was made.
pub(crate) fn shipped_key(
    browser: &PlannedBrowser,
    plan: PlanDigest,
    digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
) -> Key {
    with_ingredients(browser, plan, digests, [&[], &[]], |ingredients| Key::shipped(ingredients.iter().copied()))
}

/// Calls `key` with everything that determines the files. `makers` are the generator and the settings.
fn with_ingredients(
    browser: &PlannedBrowser,
    plan: PlanDigest,
    digests: &BTreeMap<&ComponentName, impl AsRef<[u8]>>,
    makers: [&[u8]; 2],
    key: impl FnOnce(&[&[u8]]) -> Key,
) -> Key {
    let decisions = serde_json::to_vec(browser).expect("a planned group is plain data");
    let [generator, settings] = makers;
    let mut ingredients = vec![FILES_MADE_AS, generator, &plan.0, decisions.as_slice(), settings];
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
#[cfg(feature = "compiler")]
pub(crate) fn store(cache: &CodeSource, key: &Key, note: &[u8]) -> Result<(), WebFilesError> {
    cache.write_note(key, note).map_err(|source| WebFilesError::Store { source })
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
