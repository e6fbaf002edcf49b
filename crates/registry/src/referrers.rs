//! Artifacts that refer to another one: signatures, provenance, lists of components (OCI distribution specification
//! 1.1, "Referrers"). If the registry has no API for referrers, the client stores the list of referrers under a tag
//! that contains the digest of the other artifact.

use std::collections::BTreeMap;

use bytes::Bytes;
use isomer_ids::Digest;
use isomer_parcel::artifact::{Descriptor, INDEX_TYPE, MANIFEST_TYPE, OciIndex, OciManifest, descriptor, sha256};

use crate::cache::BlobCache;
use crate::error::RegistryError;
use crate::registry::Registry;

/// The media type of a config without content, and its bytes.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// The maximum number of referrers of an artifact that are read.
const REFERRERS_MAX: usize = 100;

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

    /// Returns the descriptors of the artifacts that refer to the manifest with this digest.
    ///
    /// # Errors
    /// If the registry cannot be reached, or its list is not valid.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let listed = match self.listed_referrers(subject).await? {
            Some(listed) => Some(listed),
            None => self.manifest(&fallback_tag(&format!("sha256:{subject}"))).await?.map(|(_, bytes)| bytes),
        };
        let Some(listed) = listed else { return Ok(Vec::new()) };
        let mut found = self.parse_index(&listed)?.manifests;
        found.truncate(REFERRERS_MAX);
        Ok(found)
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
            let mut index = match self.manifest(&tag).await? {
                Some((_, bytes)) => self.parse_index(&bytes)?,
                None => OciIndex { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests: Vec::new() },
            };
            if index.manifests.iter().any(|known| known.digest == entry.digest) {
                return Ok(());
            }
            index.manifests.push(entry.clone());
            let bytes = Bytes::from(serde_json::to_vec(&index).expect("an index is plain data"));
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

/// Returns the artifacts that refer to the manifest with this digest. Leaves out those that are not artifacts of one blob.
///
/// # Errors
/// If the registry cannot be reached, or one of its responses is not valid.
pub async fn fetch_referrers(
    registry: &Registry,
    subject: &Digest,
    cache: &BlobCache,
) -> Result<Vec<Referrer>, RegistryError> {
    let mut found = Vec::new();
    let mut left = TOTAL_BYTES_MAX;
    for entry in registry.referrers(subject).await? {
        let Some(referrer) = registry.referrer(&entry, subject, cache).await? else { continue };
        left = left.saturating_sub(referrer.content.len() as u64);
        if left == 0 {
            break;
        }
        found.push(referrer);
    }
    Ok(found)
}

/// Returns the tag of the list of referrers to a digest (distribution specification, "Referrers tag schema").
fn fallback_tag(digest: &str) -> String {
    digest.replace(':', "-")
}
