//! Artifacts that refer to another one: signatures, provenance, lists of components (OCI distribution specification
//! 1.1, "Referrers"). If the registry has no API for referrers, the client stores the list of referrers under a tag
//! that contains the digest of the other artifact.

use std::collections::BTreeMap;

use bytes::Bytes;
use isomer_ids::Digest;
use isomer_parcel::artifact::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, OciIndex, OciManifest, descriptor, sha256};
use serde_json::{Value, json};

use crate::cache::BlobCache;
use crate::error::RegistryError;
use crate::registry::{NextPage, Registry};

/// The media type of a config without content, and its bytes.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// The maximum number of referrers of an artifact that are downloaded.
const REFERRERS_MAX: usize = 100;

/// The maximum number of pages of a registry's list of referrers that are read.
const PAGES_MAX: usize = 10;

/// The maximum size of a referrer's content in bytes.
pub(crate) const CONTENT_BYTES_MAX: u64 = 16 << 20;

/// The maximum size in bytes of all referrers of an artifact.
const TOTAL_BYTES_MAX: u64 = 64 << 20;

/// The maximum number of attempts to add an entry to the list. An attempt fails if another client replaces the list at
/// the same time.
const ATTEMPTS: usize = 4;

/// The annotation with the type of a statement in a Sigstore bundle, as `cosign` writes it.
pub(crate) const PREDICATE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";

/// The annotation with the kind of signature in a Sigstore bundle, as `cosign` writes it.
const CONTENT_ANNOTATION: (&str, &str) = ("dev.sigstore.bundle.content", "dsse-envelope");

/// An artifact that refers to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The type of the content, such as that of a Sigstore bundle.
    pub artifact_type: String,
    /// For a Sigstore bundle, the type of its statement.
    pub predicate_type: Option<String>,
    /// The content.
    pub content: Bytes,
}

impl Referrer {
    /// Returns the manifest of the referrer to an artifact.
    ///
    /// # Panics
    /// Never, because a manifest can be written as JSON.
    #[must_use]
    pub fn manifest(&self, subject: &Descriptor) -> (Bytes, Descriptor) {
        let mut annotations = BTreeMap::new();
        if let Some(predicate) = &self.predicate_type {
            annotations.insert(PREDICATE_ANNOTATION.to_owned(), predicate.clone());
            annotations.insert(CONTENT_ANNOTATION.0.to_owned(), CONTENT_ANNOTATION.1.to_owned());
        }
        let manifest = OciManifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(self.artifact_type.clone()),
            config: descriptor(EMPTY.0, EMPTY.1),
            layers: vec![descriptor(&self.artifact_type, &self.content)],
            subject: Some(Descriptor { annotations: BTreeMap::new(), ..subject.clone() }),
            annotations: annotations.clone(),
        };
        let bytes = Bytes::from(serde_json::to_vec(&manifest).expect("a manifest is plain data"));
        let described = descriptor(MANIFEST_TYPE, &bytes);
        (bytes, Descriptor { artifact_type: Some(self.artifact_type.clone()), annotations, ..described })
    }

    /// Returns the blobs of the referrer: its config and its content.
    #[must_use]
    pub fn blobs(&self) -> [Bytes; 2] {
        [Bytes::from_static(EMPTY.1), self.content.clone()]
    }
}

impl Registry {
    /// Stores an artifact that refers to `subject`, the descriptor of a manifest in this repository.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses it.
    pub async fn attach(&self, subject: &Descriptor, referrer: &Referrer) -> Result<Digest, RegistryError> {
        for bytes in referrer.blobs() {
            self.put_blob(&sha256(&bytes), &bytes).await?;
        }
        let (bytes, entry) = referrer.manifest(subject);
        let digest = sha256(&bytes);
        let lists_referrers = self.put_manifest(&entry.digest, &bytes, MANIFEST_TYPE).await?;
        if !lists_referrers {
            self.add_to_list(&subject.digest, &entry).await?;
        }
        Ok(digest)
    }

    /// Returns the descriptors of the artifacts that refer to the manifest with this digest, and whether these are all.
    ///
    /// # Errors
    /// If the registry cannot be reached, or its list is not valid.
    pub async fn referrers(&self, subject: &Digest) -> Result<(Vec<Descriptor>, bool), RegistryError> {
        let mut found = Vec::new();
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let page = self.listed_referrers(subject, next.take()).await?;
            let Some(page) = page else {
                if !found.is_empty() {
                    return Ok((found, false));
                }
                let listed = self.manifest(&fallback_tag(&format!("sha256:{subject}"))).await?;
                let listed = listed.map(|(_, bytes)| self.parse_index(&bytes)).transpose()?;
                return Ok((listed.map(|index| index.manifests).unwrap_or_default(), true));
            };
            found.extend(self.parse_index(&page.bytes)?.manifests);
            match page.next {
                NextPage::None => return Ok((found, true)),
                NextPage::Elsewhere => return Ok((found, false)),
                NextPage::At(url) => next = Some(url),
            }
        }
        Ok((found, false))
    }

    /// Returns the artifact that an entry of [`Registry::referrers`] names. Returns `None` if this artifact does not
    /// refer to the subject, or does not consist of one blob.
    ///
    /// # Errors
    /// If the registry cannot be reached or does not have it, or if its content is too large.
    pub async fn referrer(
        &self,
        entry: &Descriptor,
        subject: &Digest,
        cache: &BlobCache,
    ) -> Result<Option<Referrer>, RegistryError> {
        let Some(digest) = entry.sha256().filter(|_| entry.media_type == MANIFEST_TYPE) else { return Ok(None) };
        let Some((_, bytes)) = self.manifest(&format!("sha256:{digest}")).await? else { return Ok(None) };
        let Ok(manifest) = serde_json::from_slice::<OciManifest>(&bytes) else { return Ok(None) };
        let refers = manifest.subject.as_ref().and_then(Descriptor::sha256).is_some_and(|found| found == *subject);
        let [layer] = manifest.layers.as_slice() else { return Ok(None) };
        if !refers || layer.size > CONTENT_BYTES_MAX {
            return Ok(None);
        }
        let content = self.blob(layer, cache).await?;
        let artifact_type = manifest.artifact_type.unwrap_or_else(|| layer.media_type.clone());
        let predicate_type = manifest.annotations.get(PREDICATE_ANNOTATION).cloned();
        Ok(Some(Referrer { artifact_type, predicate_type, content }))
    }

    /// Adds an entry to the list under the fallback tag. The list is read again afterwards, because another client may
    /// have replaced it meanwhile.
    async fn add_to_list(&self, subject: &str, entry: &Descriptor) -> Result<(), RegistryError> {
        let tag = fallback_tag(subject);
        for _ in 0..ATTEMPTS {
            // Other tools write this list too, so what is not known here is kept.
            let mut index = match self.manifest(&tag).await? {
                Some((_, bytes)) => {
                    if self.parse_index(&bytes)?.manifests.iter().any(|known| known.digest == entry.digest) {
                        return Ok(());
                    }
                    serde_json::from_slice::<Value>(&bytes).expect("it was parsed")
                }
                None => json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }),
            };
            let entry = serde_json::to_value(entry).expect("a descriptor is plain data");
            index["manifests"].as_array_mut().expect("it was parsed").push(entry);
            let bytes = Bytes::from(index.to_string());
            self.put_manifest(&tag, &bytes, INDEX_TYPE).await?;
        }
        match self.manifest(&tag).await? {
            Some((_, bytes))
                if self.parse_index(&bytes)?.manifests.iter().any(|known| known.digest == entry.digest) =>
            {
                Ok(())
            }
            _ => Err(self.malformed("it did not store the list of signatures; another client may be changing it")),
        }
    }

    fn parse_index(&self, bytes: &[u8]) -> Result<OciIndex, RegistryError> {
        serde_json::from_slice(bytes).map_err(|error| self.malformed(&format!("a list of referrers: {error}")))
    }
}

/// Which of the artifacts that refer to an app are downloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferrerFilter<'a> {
    /// The type of the artifact; `None` for all types.
    pub artifact_type: Option<&'a str>,
    /// The type of the statement in a Sigstore bundle; `None` for all types.
    pub predicate_type: Option<&'a str>,
}

impl ReferrerFilter<'_> {
    /// Returns whether the artifact of this entry may be one of those that are wanted. An entry need not name the types.
    fn may_match(&self, entry: &Descriptor) -> bool {
        let may_be = |wanted: Option<&str>, named: Option<&String>| match (wanted, named) {
            (Some(wanted), Some(named)) => wanted == named,
            _ => true,
        };
        may_be(self.artifact_type, entry.artifact_type.as_ref())
            && may_be(self.predicate_type, entry.annotations.get(PREDICATE_ANNOTATION))
    }
}

/// The artifacts that refer to an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundReferrers {
    /// The artifacts.
    pub referrers: Vec<Referrer>,
    /// Whether these are all. A registry may list more than are read, because everyone who may write to the repository can
    /// add some.
    pub is_complete: bool,
}

/// Returns the artifacts that refer to the manifest with this digest and that `filter` selects. Leaves out those that are
/// not artifacts of one blob, and those that are damaged or missing, so that one of them does not hide the others.
///
/// # Errors
/// If the registry cannot be reached, or its list is not valid.
pub async fn fetch_referrers(
    registry: &Registry,
    subject: &Digest,
    cache: &BlobCache,
    filter: ReferrerFilter<'_>,
) -> Result<FoundReferrers, RegistryError> {
    let (entries, mut is_complete) = registry.referrers(subject).await?;
    let mut referrers = Vec::new();
    let mut left = TOTAL_BYTES_MAX;
    for (number, entry) in entries.iter().filter(|entry| filter.may_match(entry)).enumerate() {
        if number == REFERRERS_MAX {
            is_complete = false;
            break;
        }
        let referrer = match registry.referrer(entry, subject, cache).await {
            Ok(Some(referrer)) => referrer,
            Ok(None)
            | Err(
                RegistryError::Digest { .. }
                | RegistryError::TooLarge { .. }
                | RegistryError::Malformed { .. }
                | RegistryError::Status { status: 404, .. },
            ) => continue,
            Err(error) => return Err(error),
        };
        let Some(after) = left.checked_sub(referrer.content.len() as u64) else {
            is_complete = false;
            break;
        };
        left = after;
        referrers.push(referrer);
    }
    Ok(FoundReferrers { referrers, is_complete })
}

/// Returns the tag of the list of referrers to a digest (distribution specification, "Referrers tag schema").
fn fallback_tag(digest: &str) -> String {
    digest.replace(':', "-")
}
