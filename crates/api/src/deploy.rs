//! Deployments. A client deploys a release in three steps, and uploads only the parts that the node does not have:
//!
//! 1. `POST …/missing` with a [`Release`] returns the [`Digest`]s of the missing parts.
//! 2. `PUT …/blobs/DIGEST` uploads one missing part.
//! 3. `POST …/deploy` with the same [`Release`] starts the revision. The response arrives when the revision serves
//!    requests, or when it cannot be started.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, HostPattern, InvalidText, ReleaseDigest};

/// The maximum number of parts of a release.
pub const PARTS_MAX: usize = 10_000;

/// The maximum number of folders in a release: the folders that the release lists, and all parent folders of its files
/// and folders.
pub const FOLDERS_MAX: usize = 10_000;

/// The maximum length of a deployment's message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1000;

/// The maximum number of signatures of a release.
pub const SIGNATURES_MAX: usize = 16;

/// The maximum size of a signature of a release in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 64 << 10;

/// The maximum size of a manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// A release: the manifest, components and files from which a node makes a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The text of `isomer.toml`.
    pub manifest: String,
    /// The name of the shape to run. All groups of the shape run in the node's process.
    pub shape: String,
    /// The components, by name.
    pub components: BTreeMap<String, ReleasePart>,
    /// The files that components were granted, and the files with migrations. The keys are the paths in the app's
    /// folder.
    #[serde(default)]
    pub files: BTreeMap<PartPath, ReleasePart>,
    /// Empty folders that components were granted. The node creates these folders.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub folders: BTreeSet<PartPath>,
    /// The host names under which the app is served; if absent, the app keeps its host names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
    /// The message that `isomer revisions` shows. The release digest does not cover the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
    /// Signatures of the release: Sigstore bundles, as JSON text. A node that requires signatures checks them. The
    /// release digest does not cover the signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

/// The message of a deployment: at most 1,000 bytes of text, without control characters except line breaks and tabs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DeployMessage(String);

/// The error for text that is not a [`DeployMessage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {MESSAGE_BYTES_MAX} bytes, and no control characters except line breaks and tabs")]
pub struct InvalidDeployMessage;

impl DeployMessage {
    /// Returns the message as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeployMessage {
    type Err = InvalidDeployMessage;

    fn from_str(text: &str) -> Result<Self, InvalidDeployMessage> {
        let text = text.trim();
        let is_plain = text.chars().all(|character| !character.is_control() || matches!(character, '\n' | '\t' | '\r'));
        let fits = (1..=MESSAGE_BYTES_MAX).contains(&text.len());
        if is_plain && fits { Ok(Self(text.to_owned())) } else { Err(InvalidDeployMessage) }
    }
}

impl TryFrom<String> for DeployMessage {
    type Error = InvalidDeployMessage;

    fn try_from(text: String) -> Result<Self, InvalidDeployMessage> {
        text.parse()
    }
}

impl From<DeployMessage> for String {
    fn from(message: DeployMessage) -> Self {
        message.0
    }
}

/// A component or file of a release. The node stores parts under their digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePart {
    /// The SHA-256 digest of the part's bytes.
    pub digest: Digest,
    /// The size of the part in bytes.
    pub bytes: u64,
}

/// A relative path in an app's folder. The names in the path are separated by `/`; `.` and `..` are not allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PartPath(String);

impl PartPath {
    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PartPath {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let is_plain =
            |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(['\\', '\0', ':']);
        if text.len() <= 1024 && text.split('/').all(is_plain) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        let rule = "it must be relative, with `/` between plain names, and stay inside the folder";
        Err(InvalidText::new("a path in an app's folder", "static/index.html", text, rule))
    }
}

impl TryFrom<String> for PartPath {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        text.parse()
    }
}

impl From<PartPath> for String {
    fn from(path: PartPath) -> Self {
        path.0
    }
}

/// The parts of a release that a node does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingParts {
    /// The digests of the missing parts, without duplicates.
    pub digests: Vec<Digest>,
}

/// The response to a successful deployment, which means that the revision serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployReport {
    /// The digest of the release, which identifies the revision.
    pub revision: ReleaseDigest,
    /// The revision that served requests before the deployment; `null` if the app had none.
    pub previous: Option<ReleaseDigest>,
    /// The shape in which the revision runs; absent if an earlier version of Isomer responds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// Whether the revision served requests already, so that nothing was started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// The host names under which the app is served.
    pub hosts: Vec<HostPattern>,
    /// Whether components were compiled; `false` if the node already had the compiled code.
    pub compiled: bool,
    /// The duration of the deployment in milliseconds.
    pub took_ms: u64,
    /// The warnings of the plan as human-readable text.
    pub warnings: Vec<String>,
    /// The SQL stores that were migrated or restored, or whose schema is newer than the revision's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreChange>,
}

/// The effect of a deployment or rollback on one SQL store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreChange {
    /// The store's name.
    pub store: String,
    /// The migrations that were applied, in the order in which they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrated: Vec<String>,
    /// The migrations of later revisions that were already applied. The store's schema is newer than the schema of this
    /// revision, and was not changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<String>,
    /// The time of the snapshot from which the store was restored, in seconds since 1970-01-01 00:00 UTC; absent if the
    /// store was not restored. Data that was written after that time is no longer in the store. It is only in the
    /// snapshot that was taken before the store was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<u64>,
    /// Whether the node has a snapshot of the store as it was before the operation.
    #[serde(default)]
    pub snapshot: bool,
}

/// The request to roll back to an earlier revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// The revision to roll back to; if absent, the revision that served requests before the current one.
    pub revision: Option<ReleaseDigest>,
    /// Whether to restore the app's SQL stores from the snapshot that belongs to the revision. The app loses the data
    /// that was written to the stores after the snapshot. If `false`, the stores stay unchanged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub to_snapshot: bool,
    /// The message that `isomer revisions` shows; if absent, the message of the revision's deployment is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// The request to replace components of the revision that serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The new components, by name. The node must already have their bytes (`PUT …/blobs/DIGEST`).
    pub components: BTreeMap<String, ReleasePart>,
    /// The message that `isomer revisions` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// The request to run the revision that serves requests in another shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReshapeRequest {
    /// The name of the shape: `monolith`, or a shape of the manifest. All groups of the shape run in the
    /// node's process.
    pub shape: String,
    /// The message that `isomer revisions` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_short_text() {
        assert_eq!(
            " Fix the cart\n\nIt lost things.\n".parse::<DeployMessage>().unwrap().as_str(),
            "Fix the cart\n\nIt lost things."
        );
        for bad in ["", " \n", "a\u{1b}[2Jb", "a\0b", &"x".repeat(MESSAGE_BYTES_MAX + 1)] {
            assert!(bad.parse::<DeployMessage>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_stays_in_its_folder() {
        for good in ["a", "static/index.html", "a b/ü.txt"] {
            assert!(good.parse::<PartPath>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "c:a", "a\nb", "a\0"] {
            assert!(bad.parse::<PartPath>().is_err(), "{bad}");
        }
    }
}
