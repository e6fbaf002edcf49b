//! Making the files of a browser group. Only programs with the compiler make them.

use bytes::Bytes;
use isomer_front::gateway::NewStaticFile;
use isomer_ids::PlanDigest;
use isomer_manifest::App;
use isomer_plan::PlannedBrowser;
use isomer_seam::Components;
use isomer_web::WebParcel;

use crate::error::RevisionError;
use crate::web_files::{FileEntry, Header, decode};
use crate::web_files_error::WebFilesError;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
