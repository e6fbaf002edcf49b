//! A deployment uploads a release in three steps, and only the parts that the node does not have:
//!
//! 1. `POST …/missing` with a [`Release`] returns the [`Digest`]s of the parts that the node does not have.
//! 2. `PUT …/blobs/DIGEST` uploads each of them.
//! 3. `POST …/deploy` with the same [`Release`] returns when the revision serves requests, or why it cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, HostPattern, InvalidText, ReleaseDigest};

/// The maximum number of parts of a release.
pub const PARTS_MAX: usize = 10_000;

/// The maximum number of folders of a release: those that it names, and all parent folders of its files and folders.
pub const FOLDERS_MAX: usize = 10_000;

/// The maximum length of a deployment's message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1000;

/// The maximum size of a manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// A release: everything that a revision is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The text of `isomer.toml`.
    pub manifest: String,
    /// The shape. All its groups run in the node's process.
    pub shape: String,
    /// The components, by name.
    pub components: BTreeMap<String, ReleasePart>,
    /// Files of the app's folder that are granted or contain migrations, by their paths in the folder.
    #[serde(default)]
    pub files: BTreeMap<PartPath, ReleasePart>,
    /// Granted folders that are empty. They are created on the node, too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub folders: BTreeSet<PartPath>,
    /// The host names under which the app is served; absent leaves them unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
    /// The message that `isomer revisions` shows. It is not part of the release's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// The message of a deployment: one or several lines of text, at most 1,000 bytes, without other control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DeployMessage(String);

/// The error for text that is not a [`DeployMessage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {MESSAGE_BYTES_MAX} bytes, and no control characters but line breaks and tabs")]
pub struct InvalidDeployMessage;

impl DeployMessage {
    /// Returns the text.
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

/// A part of a release. The node stores parts by their digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePart {
    /// The SHA-256 of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub bytes: u64,
}

/// A path in an app's folder: relative, with `/` between plain names.
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
    /// The digests, each once.
    pub digests: Vec<Digest>,
}

/// The result of a deployment: the revision serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployReport {
    /// Its name.
    pub revision: ReleaseDigest,
    /// The revision that served before.
    pub previous: Option<ReleaseDigest>,
    /// The host names under which it is served.
    pub hosts: Vec<HostPattern>,
    /// Whether components were compiled; `false` if the node had their code.
    pub compiled: bool,
    /// The duration of the deployment in milliseconds.
    pub took_ms: u64,
    /// The warnings of the plan, as text for people.
    pub warnings: Vec<String>,
    /// The SQL stores whose data or schema the deployment concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreChange>,
}

/// What happened to a SQL store when a revision took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreChange {
    /// Its name.
    pub store: String,
    /// The migrations that were applied, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrated: Vec<String>,
    /// Migrations of later revisions that were already applied: the store's schema is newer than this revision's and
    /// stays as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<String>,
    /// The store was restored to its state at this time, in seconds since 1970, UTC. What was written since then is
    /// only in the snapshot that was taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<u64>,
    /// Whether there is a snapshot of the store's previous state.
    #[serde(default)]
    pub snapshot: bool,
}

/// The request to roll back to an earlier revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// The revision to roll back to; absent means the one that served before the current one.
    pub revision: Option<ReleaseDigest>,
    /// Whether to restore its SQL stores from the snapshot that was taken when a revision with migrations took over
    /// from it. What was written to them since then is lost to the app. If `false`, the stores stay as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub to_snapshot: bool,
    /// The message that `isomer revisions` shows; absent means the message of the revision's deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// The request to replace components of the revision that serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The new bytes, by the components' names. The node must have them (`PUT …/blobs/DIGEST`).
    pub components: BTreeMap<String, ReleasePart>,
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
