//! An app with its signatures as one file, for machines without a network: an OCI image layout in a tar archive (image
//! specification 1.1, "Image Layout").
//!
//! An archive is reproducible: its entries are sorted, and have neither times nor owners. An archive that is read is
//! untrusted: entries that do not belong to an OCI image layout are ignored, the sizes of the others are limited, and
//! each blob must have the digest in its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use bytes::Bytes;
use isomer_ids::Digest;
use isomer_parcel::Contents;
use isomer_parcel::artifact::{
    APP_TYPE, ARTIFACT_MANIFEST_BYTES_MAX, AppArtifact, ArtifactError, Descriptor, INDEX_TYPE, MANIFEST_TYPE, OciIndex,
    OciManifest, sha256,
};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use crate::app::{APP_BYTES_MAX, PulledApp, app_descriptor};
use crate::referrers::{CONTENT_BYTES_MAX, PREDICATE_ANNOTATION, Referrer};

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";

/// The annotation of an entry of the index that contains the tag.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The maximum number of entries of an archive.
const ENTRIES_MAX: usize = 20_000;

/// The maximum size of the index in bytes.
const INDEX_BYTES_MAX: u64 = 4 << 20;

/// The maximum number of manifests: the app and what refers to it.
const MANIFESTS_MAX: usize = 101;

/// The reason why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be read or written.
    #[error("the archive cannot be read or written")]
    Io(#[from] io::Error),
    /// The archive is not an OCI image layout with one app.
    #[error("the archive is not an app: {0}")]
    Malformed(String),
    /// The digest of a blob in the archive differs from the digest in its name.
    #[error("the archive is damaged: the digest of a blob is `sha256:{found}`, not `sha256:{expected}`")]
    Digest {
        /// The digest in the blob's name.
        expected: String,
        /// The digest of the blob's bytes.
        found: String,
    },
    /// The artifact in the archive is not an app.
    #[error("the archive is not an app")]
    Artifact(#[from] ArtifactError),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// Writes an app and the artifacts that refer to it. `tag` is the name of the app in the index.
///
/// # Errors
/// If the app cannot be an artifact, or if writing fails.
///
/// # Panics
/// Never, because the index can be written as JSON.
pub fn write_archive(
    out: impl Write,
    contents: &Contents,
    referrers: &[Referrer],
    tag: Option<&str>,
) -> Result<(), ArchiveError> {
    let artifact = AppArtifact::of(&contents.release)?;
    let subject = app_descriptor(&artifact);
    let mut blobs: BTreeMap<Digest, Bytes> = contents.parts.clone();
    blobs.insert(artifact.digest.clone(), artifact.manifest.clone());
    blobs.insert(sha256(&artifact.config), artifact.config.clone());
    let name = tag.map(|tag| (NAME.to_owned(), tag.to_owned()));
    let mut manifests = vec![Descriptor { annotations: name.into_iter().collect(), ..subject.clone() }];
    for referrer in referrers {
        let (manifest, entry) = referrer.manifest(&subject);
        blobs.insert(sha256(&manifest), manifest);
        blobs.extend(referrer.blobs().map(|bytes| (sha256(&bytes), bytes)));
        manifests.push(entry);
    }
    let index = OciIndex { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests };
    let layout = Layout { image_layout_version: "1.0.0".to_owned() };
    let mut archive = Builder::new(out);
    append(&mut archive, LAYOUT, &serde_json::to_vec(&layout).expect("a layout is plain data"))?;
    append(&mut archive, INDEX, &serde_json::to_vec(&index).expect("an index is plain data"))?;
    for (digest, bytes) in &blobs {
        append(&mut archive, &format!("{BLOBS}{digest}"), bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Reads an app and the artifacts that refer to it. The release has the shape `shape`.
///
/// # Errors
/// If the archive is not an OCI image layout with exactly one app, or if it is damaged or too large.
pub fn read_archive(input: impl Read, shape: &str) -> Result<(PulledApp, Vec<Referrer>), ArchiveError> {
    let entries = Entries::read(input)?;
    let malformed = |problem: &str| ArchiveError::Malformed(problem.to_owned());
    let layout: Layout = parse(entries.layout.as_deref().ok_or_else(|| malformed("`oci-layout` is missing"))?)?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(malformed("the layout has an unknown version"));
    }
    let index: OciIndex = parse(entries.index.as_deref().ok_or_else(|| malformed("`index.json` is missing"))?)?;
    let mut apps = BTreeSet::new();
    let mut referrers = Vec::new();
    if index.manifests.len() > MANIFESTS_MAX {
        return Err(malformed("`index.json` has too many entries"));
    }
    let mut seen = BTreeSet::new();
    for entry in index.manifests.iter().filter(|entry| entry.media_type == MANIFEST_TYPE) {
        if !seen.insert(&entry.digest) {
            continue;
        }
        let bytes = entries.blob(entry)?;
        if bytes.len() > ARTIFACT_MANIFEST_BYTES_MAX {
            return Err(malformed("a manifest is too large"));
        }
        let manifest: OciManifest = parse(bytes)?;
        if manifest.artifact_type.as_deref() == Some(APP_TYPE) {
            apps.insert(entry.digest.clone());
        } else if manifest.subject.is_some() {
            referrers.push(manifest);
        }
    }
    let [app] = apps.iter().collect::<Vec<_>>()[..] else {
        return Err(ArchiveError::Malformed(format!("it contains {} apps, not one", apps.len())));
    };
    let digest = app.strip_prefix("sha256:").and_then(|digits| digits.parse::<Digest>().ok());
    let digest = digest.ok_or_else(|| malformed("a digest is not a SHA-256"))?;
    let manifest = entries.by_digest(&digest)?;
    let config = entries.blob(&AppArtifact::config_of(manifest)?)?;
    let release = AppArtifact::release(manifest, config, shape)?;
    let parts = isomer_parcel::parts(&release).map(|part| {
        let bytes = entries.by_digest(&part.digest)?;
        match bytes.len() as u64 == part.bytes {
            true => Ok((part.digest.clone(), bytes.clone())),
            false => Err(malformed("the size of a blob is not the one in the manifest")),
        }
    });
    let parts = parts.collect::<Result<BTreeMap<_, _>, ArchiveError>>()?;
    let mut found = Vec::new();
    for manifest in referrers {
        let refers = manifest.subject.as_ref().and_then(Descriptor::sha256).is_some_and(|subject| subject == digest);
        let [layer] = manifest.layers.as_slice() else { continue };
        if refers && layer.size <= CONTENT_BYTES_MAX {
            found.push(Referrer {
                artifact_type: manifest.artifact_type.unwrap_or_else(|| layer.media_type.clone()),
                predicate_type: manifest.annotations.get(PREDICATE_ANNOTATION).cloned(),
                content: entries.blob(layer)?.clone(),
            });
        }
    }
    Ok((PulledApp { digest, contents: Contents { release, parts } }, found))
}

/// The entries of an archive that belong to an OCI image layout.
#[derive(Default)]
struct Entries {
    layout: Option<Bytes>,
    index: Option<Bytes>,
    /// The blobs, each of which has the digest under which it is listed.
    blobs: BTreeMap<Digest, Bytes>,
}

impl Entries {
    fn read(input: impl Read) -> Result<Self, ArchiveError> {
        let mut found = Self::default();
        // The maximum total size: the largest app, its manifest and config, and its referrers.
        let mut left = APP_BYTES_MAX + (64 << 20);
        let mut archive = Archive::new(input);
        // Raw entries: names and sizes in extension headers would be read into memory without a limit. The names of a layout
        // need no extensions, so these headers are skipped like other entries.
        for (number, entry) in archive.entries()?.raw(true).enumerate() {
            if number >= ENTRIES_MAX {
                return Err(ArchiveError::Malformed(format!("it has more than {ENTRIES_MAX} entries")));
            }
            let mut entry = entry?;
            // Bytes that are skipped are read too, so they count.
            let Some(after) = left.checked_sub(entry.size()) else {
                return Err(ArchiveError::Malformed(format!(
                    "it is larger than {}",
                    isomer_display::size(APP_BYTES_MAX)
                )));
            };
            let available = std::mem::replace(&mut left, after);
            if entry.header().entry_type() != EntryType::Regular {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name);
            let digest = name.strip_prefix(BLOBS).and_then(|digits| digits.parse::<Digest>().ok());
            let max = match (&digest, name) {
                (Some(_), _) => available,
                (None, LAYOUT | INDEX) => INDEX_BYTES_MAX,
                (None, _) => continue,
            };
            if entry.size() > max {
                return Err(ArchiveError::Malformed(format!("`{name}` is larger than {}", isomer_display::size(max))));
            }
            let mut bytes = Vec::new();
            (&mut entry).take(max).read_to_end(&mut bytes)?;
            let bytes = Bytes::from(bytes);
            match digest {
                Some(expected) => {
                    let digest = sha256(&bytes);
                    if digest != expected {
                        let (expected, found) = (expected.to_string(), digest.to_string());
                        return Err(ArchiveError::Digest { expected, found });
                    }
                    found.blobs.insert(digest, bytes);
                }
                None if name == LAYOUT => found.layout = Some(bytes),
                None => found.index = Some(bytes),
            }
        }
        Ok(found)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<&Bytes, ArchiveError> {
        let digest = descriptor.sha256();
        let digest = digest.ok_or_else(|| ArchiveError::Malformed("a digest is not a SHA-256".to_owned()))?;
        self.by_digest(&digest)
    }

    fn by_digest(&self, digest: &Digest) -> Result<&Bytes, ArchiveError> {
        self.blobs.get(digest).ok_or_else(|| ArchiveError::Malformed(format!("the blob `sha256:{digest}` is missing")))
    }
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| ArchiveError::Malformed(error.to_string()))
}

fn append(archive: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    archive.append_data(&mut header, name, bytes)
}
