//! An app as an artifact of an OCI registry: a manifest that lists a config and one layer for each component and file.
//!
//! The bytes of the manifest and the config depend only on the content of the release, not on its shape, host names,
//! message or signatures. So an app has one digest in every registry and on every node, and a client that has the
//! release can verify a signature of the artifact without the registry. A manifest is accepted as an app only if it
//! equals the manifest that is computed from its config.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use isomer_api::deploy::{FOLDERS_MAX, MANIFEST_BYTES_MAX, PARTS_MAX};
use isomer_api::{PartPath, Release, ReleasePart};
use isomer_ids::{ComponentName, Digest};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media type of a list of manifests.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// The type of an artifact that is an app.
pub const APP_TYPE: &str = "application/vnd.isomer.app.v1";

/// The media type of the config of an app.
pub const APP_CONFIG_TYPE: &str = "application/vnd.isomer.app.config.v1+json";

/// The media type of a component, which all tools for WebAssembly use.
pub const COMPONENT_TYPE: &str = "application/wasm";

/// The media type of a file of an app.
pub const FILE_TYPE: &str = "application/vnd.isomer.app.file.v1";

/// The annotation in which other tools find the file name of a layer.
pub const TITLE: &str = "org.opencontainers.image.title";

/// The maximum size of a manifest in bytes. Most registries have the same limit.
pub const ARTIFACT_MANIFEST_BYTES_MAX: usize = 4 << 20;

/// The maximum size of the config of an app in bytes.
pub const ARTIFACT_CONFIG_BYTES_MAX: usize = 16 << 20;

/// A reference from a manifest to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the blob's content.
    pub media_type: String,
    /// The digest of the blob, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The type of the artifact; set only in lists of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Further information about the blob.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest of an OCI registry, as the image specification 1.1 defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciManifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
    /// The artifact that this one is about, such as the app that a signature signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Further information about the artifact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciIndex {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX_TYPE`].
    #[serde(default)]
    pub media_type: String,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// The content of a release that is the same in every shape and on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppConfig {
    manifest: String,
    components: BTreeMap<String, ReleasePart>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<PartPath, ReleasePart>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    folders: BTreeSet<PartPath>,
}

/// The manifest and the config of an app in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppArtifact {
    /// The bytes of the manifest.
    pub manifest: Bytes,
    /// The bytes of the config.
    pub config: Bytes,
    /// The digest of the manifest, which identifies the artifact.
    pub digest: Digest,
}

/// The reason why an artifact is not an app, or why an app cannot be an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// The artifact has another type.
    #[error("the artifact is not an app: its type is `{found}`, not `{APP_TYPE}`")]
    Type {
        /// The type that the manifest names.
        found: String,
    },
    /// The manifest or the config cannot be parsed.
    #[error("the {part} of the artifact cannot be read: {problem}")]
    Malformed {
        /// The part of the artifact.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest differs from the one that is computed from the config.
    #[error("the manifest of the artifact does not match its config")]
    Mismatch,
    /// A part is larger than its limit.
    #[error("the {part} of the artifact has {found}, and at most {max} are allowed")]
    TooLarge {
        /// The part of the artifact.
        part: &'static str,
        /// The size.
        found: String,
        /// The limit.
        max: String,
    },
}

impl AppArtifact {
    /// Returns the artifact of a release.
    ///
    /// # Errors
    /// If the app has too many files, or too long paths, so that the manifest is larger than registries accept.
    pub fn of(release: &Release) -> Result<Self, ArtifactError> {
        let config = AppConfig {
            manifest: release.manifest.clone(),
            components: release.components.clone(),
            files: release.files.clone(),
            folders: release.folders.clone(),
        };
        Self::from_config(&config)
    }

    fn from_config(config: &AppConfig) -> Result<Self, ArtifactError> {
        let bytes = Bytes::from(json(config));
        check("config", bytes.len(), ARTIFACT_CONFIG_BYTES_MAX)?;
        let components =
            config.components.iter().map(|(name, part)| layer(COMPONENT_TYPE, part, format!("components/{name}.wasm")));
        let files = config.files.iter().map(|(path, part)| layer(FILE_TYPE, part, path.as_str().to_owned()));
        let manifest = OciManifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: Some(APP_TYPE.to_owned()),
            config: descriptor(APP_CONFIG_TYPE, &bytes),
            layers: components.chain(files).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let manifest = Bytes::from(json(&manifest));
        check("manifest", manifest.len(), ARTIFACT_MANIFEST_BYTES_MAX)?;
        Ok(Self { digest: sha256(&manifest), manifest, config: bytes })
    }

    /// Parses the manifest of an app, and returns the descriptor of its config.
    ///
    /// # Errors
    /// If the bytes are not the manifest of an app.
    pub fn config_of(manifest: &[u8]) -> Result<Descriptor, ArtifactError> {
        check("manifest", manifest.len(), ARTIFACT_MANIFEST_BYTES_MAX)?;
        let manifest: OciManifest = serde_json::from_slice(manifest).map_err(|error| malformed("manifest", &error))?;
        let found = manifest.artifact_type.unwrap_or(manifest.config.media_type.clone());
        if found != APP_TYPE || manifest.config.media_type != APP_CONFIG_TYPE {
            return Err(ArtifactError::Type { found });
        }
        check("config", usize::try_from(manifest.config.size).unwrap_or(usize::MAX), ARTIFACT_CONFIG_BYTES_MAX)?;
        Ok(manifest.config)
    }

    /// Returns the release whose artifact has this manifest and this config. The release has the shape `shape`, and
    /// no host names, message and signatures.
    ///
    /// # Errors
    /// If the config is not valid, or if the manifest differs from the one that is computed from the config.
    pub fn release(manifest: &[u8], config: &[u8], shape: &str) -> Result<Release, ArtifactError> {
        check("config", config.len(), ARTIFACT_CONFIG_BYTES_MAX)?;
        let parsed: AppConfig = serde_json::from_slice(config).map_err(|error| malformed("config", &error))?;
        check("app's manifest", parsed.manifest.len(), MANIFEST_BYTES_MAX)?;
        let parts = parsed.components.len() + parsed.files.len();
        if parts > PARTS_MAX || parsed.folders.len() > FOLDERS_MAX {
            return Err(ArtifactError::TooLarge {
                part: "config",
                found: format!("{parts} parts and {} folders", parsed.folders.len()),
                max: format!("{PARTS_MAX} parts and {FOLDERS_MAX} folders"),
            });
        }
        if let Some(name) = parsed.components.keys().find(|name| name.parse::<ComponentName>().is_err()) {
            let problem = format!("`{}` is not the name of a component", name.escape_debug());
            return Err(ArtifactError::Malformed { part: "config", problem });
        }
        let expected = Self::from_config(&parsed)?;
        if expected.manifest != manifest || expected.config != config {
            return Err(ArtifactError::Mismatch);
        }
        let AppConfig { manifest, components, files, folders } = parsed;
        let shape = shape.to_owned();
        let (hosts, message, signatures) = (None, None, Vec::new());
        Ok(Release { manifest, shape, components, files, folders, hosts, message, signatures })
    }
}

/// Returns the descriptor of a blob.
#[must_use]
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", sha256(bytes)),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

/// Returns the SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(sha2::Sha256::digest(bytes)))
}

impl Descriptor {
    /// Returns the digest of the blob; `None` if it is not a SHA-256.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.digest.strip_prefix("sha256:")?.parse().ok()
    }
}

fn layer(media_type: &str, part: &ReleasePart, title: String) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", part.digest),
        size: part.bytes,
        artifact_type: None,
        annotations: [(TITLE.to_owned(), title)].into(),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the value has only texts as keys")
}

fn malformed(part: &'static str, error: &serde_json::Error) -> ArtifactError {
    ArtifactError::Malformed { part, problem: error.to_string() }
}

fn check(part: &'static str, bytes: usize, max: usize) -> Result<(), ArtifactError> {
    if bytes <= max {
        return Ok(());
    }
    let size = |bytes: usize| isomer_display::size(bytes).to_string();
    Err(ArtifactError::TooLarge { part, found: size(bytes), max: size(max) })
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;

    use super::*;

    fn release() -> Release {
        let part = |bytes: &[u8]| ReleasePart { digest: sha256(bytes), bytes: bytes.len() as u64 };
        Release {
            manifest: "[app]\nname = \"shop\"\n".to_owned(),
            shape: "monolith".to_owned(),
            components: [("cart".to_owned(), part(b"wasm"))].into(),
            files: [("static/a.txt".parse().unwrap(), part(b"a"))].into(),
            folders: ["empty".parse().unwrap()].into(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        }
    }

    #[test]
    fn an_app_and_its_artifact_follow_from_each_other() {
        let release = release();
        let artifact = AppArtifact::of(&release).unwrap();
        // The digest is part of the format, because signatures contain it. It must not change.
        assert_eq!(artifact.digest.as_str(), DIGEST);
        let config = AppArtifact::config_of(&artifact.manifest).unwrap();
        assert_eq!(config.sha256().unwrap(), sha256(&artifact.config));
        assert_eq!(AppArtifact::release(&artifact.manifest, &artifact.config, "monolith").unwrap(), release);
        let elsewhere = Release {
            shape: "split".to_owned(),
            hosts: Some(vec!["a.example".parse().unwrap()]),
            message: Some("m".parse().unwrap()),
            signatures: vec!["{}".to_owned()],
            ..release
        };
        assert_eq!(AppArtifact::of(&elsewhere).unwrap(), artifact);
    }

    const DIGEST: &str = "d25742ea1c4142f649a4756fb2b499d695c69b807960f15bee6ec1a17bf717e6";

    #[test]
    fn every_change_of_the_content_changes_the_digest() {
        let first = release();
        let digest = AppArtifact::of(&first).unwrap().digest;
        let changes: [fn(&mut Release); 5] = [
            |release| release.manifest.push(' '),
            |release| release.components.get_mut("cart").unwrap().digest = sha256(b"other"),
            |release| release.components.get_mut("cart").unwrap().bytes += 1,
            |release| drop(release.files.pop_first()),
            |release| drop(release.folders.pop_first()),
        ];
        for change in changes {
            let mut changed = first.clone();
            change(&mut changed);
            assert_ne!(AppArtifact::of(&changed).unwrap().digest, digest);
        }
    }

    #[test]
    fn a_manifest_with_anything_else_is_refused() {
        let artifact = AppArtifact::of(&release()).unwrap();
        let manifest = String::from_utf8(artifact.manifest.to_vec()).unwrap();
        let config = String::from_utf8(artifact.config.to_vec()).unwrap();
        let refused = |manifest: &str, config: &str| {
            AppArtifact::release(manifest.as_bytes(), config.as_bytes(), "monolith").unwrap_err()
        };
        for changed in [
            manifest.replace("static/a.txt", "static/b.txt"),
            manifest.replace("application/wasm", "text/html"),
            format!("{manifest} "),
            manifest.replace("\"layers\"", "\"annotations\":{\"a\":\"b\"},\"layers\""),
        ] {
            assert_ne!(changed, manifest);
            assert_eq!(refused(&changed, &config), ArtifactError::Mismatch);
        }
        assert_eq!(refused(&manifest, &format!("{config} ")), ArtifactError::Mismatch);
        for (from, to) in [("static/a.txt", "../a.txt"), ("static/a.txt", "/a"), ("\"cart\"", "\"../cart\"")] {
            let problem = refused(&manifest.replace(from, to), &config.replace(from, to));
            assert!(matches!(problem, ArtifactError::Malformed { part: "config", .. }), "{problem}");
        }
        let image = manifest.replace(APP_TYPE, "application/vnd.oci.image.config.v1+json");
        assert!(matches!(AppArtifact::config_of(image.as_bytes()).unwrap_err(), ArtifactError::Type { .. }));
        assert!(matches!(AppArtifact::config_of(b"{").unwrap_err(), ArtifactError::Malformed { .. }));
        let huge = manifest.replace(&format!("\"size\":{}", config.len()), "\"size\":18446744073709551615");
        assert!(matches!(AppArtifact::config_of(huge.as_bytes()).unwrap_err(), ArtifactError::TooLarge { .. }));
    }
}
