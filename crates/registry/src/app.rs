//! Pushing and pulling apps.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use isomer_ids::{Digest, OciReference};
use isomer_parcel::Contents;
use isomer_parcel::artifact::{
    APP_TYPE, AppArtifact, ArtifactError, Descriptor, FILE_TYPE, MANIFEST_TYPE, descriptor, sha256,
};

use crate::cache::BlobCache;
use crate::error::RegistryError;
use crate::registry::Registry;

/// The maximum number of blobs that are transferred at the same time.
const TRANSFERS_MAX: usize = 4;

/// The maximum size in bytes of all components and files of an app, as on a node.
pub(crate) const APP_BYTES_MAX: u64 = 1 << 30;

/// An app in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedApp {
    /// The digest of the app's manifest.
    pub digest: Digest,
    /// The descriptor of the app's manifest, to which signatures refer.
    pub descriptor: Descriptor,
    /// The bytes of the app's manifest.
    manifest: Bytes,
    /// The number of blobs that were uploaded.
    pub uploaded: usize,
    /// The number of blobs that the repository already had.
    pub existing: usize,
}

/// An app from a registry.
#[derive(Debug, Clone)]
pub struct PulledApp {
    /// The digest of the app's manifest.
    pub digest: Digest,
    /// The app.
    pub contents: Contents,
}

/// Pushes an app: first its blobs, and then its manifest under its digest. [`tag_app`] is the last step, so that the tag
/// never refers to an app that is incomplete or not signed yet. Calls `report_sent` with the size of each blob that the
/// registry has.
///
/// # Errors
/// If the reference has a digest, if the app cannot be an artifact, or if the registry cannot be reached or refuses it.
pub async fn push_app(
    registry: &Registry,
    reference: &OciReference,
    contents: &Contents,
    report_sent: &(dyn Fn(u64) + Sync),
) -> Result<PushedApp, RegistryError> {
    tag_of(reference)?;
    let artifact = AppArtifact::of(&contents.release)
        .map_err(|source| RegistryError::Artifact { reference: reference.to_string(), source })?;
    let config = (sha256(&artifact.config), artifact.config.clone());
    let parts = contents.parts.iter().map(|(digest, bytes)| (digest.clone(), bytes.clone()));
    let uploads = stream::iter(parts.chain([config])).map(async |(digest, bytes)| {
        let uploaded = registry.put_blob(&digest, &bytes).await?;
        report_sent(bytes.len() as u64);
        Ok::<_, RegistryError>(uploaded)
    });
    let uploads: Vec<bool> = uploads.buffer_unordered(TRANSFERS_MAX).try_collect().await?;
    let descriptor = app_descriptor(&artifact);
    registry.put_manifest(&descriptor.digest, &artifact.manifest, MANIFEST_TYPE).await?;
    let uploaded = uploads.iter().filter(|uploaded| **uploaded).count();
    let AppArtifact { digest, manifest, .. } = artifact;
    Ok(PushedApp { digest, descriptor, manifest, uploaded, existing: uploads.len() - uploaded })
}

/// Lets the tag of the reference name an app that was pushed.
///
/// # Errors
/// If the reference has a digest, or if the registry cannot be reached or refuses the tag.
pub async fn tag_app(registry: &Registry, reference: &OciReference, pushed: &PushedApp) -> Result<(), RegistryError> {
    registry.put_manifest(tag_of(reference)?, &pushed.manifest, MANIFEST_TYPE).await.map(drop)
}

fn tag_of(reference: &OciReference) -> Result<&str, RegistryError> {
    reference.tag().filter(|_| reference.digest().is_none()).ok_or_else(|| RegistryError::Reference {
        problem: format!("an app is pushed under a tag, and `{reference}` has a digest"),
    })
}

/// Returns the descriptor of the app's manifest, to which signatures refer.
#[must_use]
pub fn app_descriptor(artifact: &AppArtifact) -> Descriptor {
    Descriptor { artifact_type: Some(APP_TYPE.to_owned()), ..descriptor(MANIFEST_TYPE, &artifact.manifest) }
}

/// Pulls an app. If the reference has a digest, its tag is ignored.
///
/// # Errors
/// If the registry cannot be reached or does not have the app, or if the artifact is not an app or is damaged.
pub async fn pull_app(
    registry: &Registry,
    reference: &OciReference,
    cache: &BlobCache,
    shape: &str,
) -> Result<PulledApp, RegistryError> {
    let artifact = |source: ArtifactError| RegistryError::Artifact { reference: reference.to_string(), source };
    let (digest, manifest) = manifest_of(registry, reference, cache).await?;
    let config = AppArtifact::config_of(&manifest).map_err(artifact)?;
    let config = registry.blob(&config, cache).await?;
    let release = AppArtifact::release(&manifest, &config, shape).map_err(artifact)?;
    let mut parts: BTreeMap<&Digest, u64> = BTreeMap::new();
    for part in isomer_parcel::parts(&release) {
        if parts.insert(&part.digest, part.bytes).is_some_and(|bytes| bytes != part.bytes) {
            return Err(artifact(ArtifactError::Mismatch));
        }
    }
    let total = parts.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    if total > APP_BYTES_MAX {
        return Err(artifact(ArtifactError::TooLarge {
            part: "content",
            found: isomer_display::size(total).to_string(),
            max: isomer_display::size(APP_BYTES_MAX).to_string(),
        }));
    }
    let downloads = stream::iter(parts).map(async |(digest, bytes)| {
        let descriptor = Descriptor {
            media_type: FILE_TYPE.to_owned(),
            digest: format!("sha256:{digest}"),
            size: bytes,
            artifact_type: None,
            annotations: BTreeMap::new(),
        };
        Ok::<_, RegistryError>((digest.clone(), registry.blob(&descriptor, cache).await?))
    });
    let parts: BTreeMap<Digest, Bytes> = downloads.buffer_unordered(TRANSFERS_MAX).try_collect().await?;
    Ok(PulledApp { digest, contents: Contents { release, parts } })
}

/// Returns the manifest that a reference names. If the reference has a digest, the manifest may come from the cache.
pub(crate) async fn manifest_of(
    registry: &Registry,
    reference: &OciReference,
    cache: &BlobCache,
) -> Result<(Digest, Bytes), RegistryError> {
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => {
            let max = isomer_parcel::artifact::ARTIFACT_MANIFEST_BYTES_MAX as u64;
            if let Some(bytes) = cache.get(digest, max) {
                return Ok((digest.clone(), bytes));
            }
            format!("sha256:{digest}")
        }
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let found = registry.manifest(&name).await?;
    let (digest, bytes) = found.ok_or_else(|| RegistryError::NotFound { reference: reference.to_string() })?;
    cache.insert(&digest, &bytes);
    Ok((digest, bytes))
}
