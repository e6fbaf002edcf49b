//! What a deployment sends: first what it is made of, then what the node lacks of that.
//!
//! 1. `POST …/missing` with a [`Release`] answers which [`Digest`]s the node does not have.
//! 2. `PUT …/blobs/DIGEST` for each of them.
//! 3. `POST …/deploy` with the same [`Release`] answers when the revision serves, or why it cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use isomer_ids::{Digest, HostPattern, InvalidText, ReleaseDigest};

/// The most parts that a release may have.
pub const PARTS_MAX: usize = 10_000;

/// The most folders of a release: those that it names, and all that its files and folders lie in.
pub const FOLDERS_MAX: usize = 10_000;

/// The most bytes of a deployment's message.
pub const MESSAGE_BYTES_MAX: usize = 1000;

/// The most bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// All that a revision is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The text of `isomer.toml`.
    pub manifest: String,
    /// The shape: its groups run in the node's one process.
    pub shape: String,
    /// The components' bytes, by the components' names.
    pub components: BTreeMap<String, ReleasePart>,
    /// Files of the app's folder that it is granted or migrated with, by their paths in it.
    #[serde(default)]
    pub files: BTreeMap<PartPath, ReleasePart>,
    /// Folders that it is granted and that hold nothing: they are there on the node, too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub folders: BTreeSet<PartPath>,
    /// The host names under which it is to be served; absent leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
    /// What `isomer revisions` says of it. No part of what the revision is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// The message of a deployment: text of one line or several, at most 1,000 bytes, without other control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DeployMessage(String);

/// Why a text is no [`DeployMessage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {MESSAGE_BYTES_MAX} bytes, and no control characters but line breaks and tabs")]
pub struct InvalidDeployMessage;

impl DeployMessage {
    /// The text.
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

/// Some bytes that the node keeps by their content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePart {
    /// Their SHA-256.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
}

/// A path in an app's folder: relative, of plain names, with `/` in between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PartPath(String);

impl PartPath {
    /// The path as text.
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

/// What a node lacks of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingParts {
    /// Each once.
    pub digests: Vec<Digest>,
}

/// A revision serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployReport {
    /// Its name.
    pub revision: ReleaseDigest,
    /// The one that served before.
    pub previous: Option<ReleaseDigest>,
    /// The host names under which it is served.
    pub hosts: Vec<HostPattern>,
    /// Was it compiled for this? Not if the node had its code.
    pub compiled: bool,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
    /// What the plan warns of, as a person reads it.
    pub warnings: Vec<String>,
    /// SQL stores whose data or schema this has to do with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreChange>,
}

/// What happened to a SQL store when a revision took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreChange {
    /// Its name.
    pub store: String,
    /// The migrations that were applied, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrated: Vec<String>,
    /// Migrations of later revisions that the store has: its schema is newer than this revision's, and stays as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<String>,
    /// The store is as it was then, in seconds since 1970, UTC; what was written since is only in the snapshot that was taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<u64>,
    /// Is there a snapshot of the store as it was before?
    #[serde(default)]
    pub snapshot: bool,
}

/// Goes back to an earlier revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// Which; the one that served before this one where absent.
    pub revision: Option<ReleaseDigest>,
    /// Its SQL stores too, as they were when a revision with migrations took over from it: what was written to them since is not in them
    /// any more. Else they stay as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub to_snapshot: bool,
    /// What `isomer revisions` says of it; else what was said when the revision was deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<DeployMessage>,
}

/// Replaces components of the revision that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// Their new bytes, by the components' names. The node must have them (`PUT …/blobs/DIGEST`).
    pub components: BTreeMap<String, ReleasePart>,
    /// What `isomer revisions` says of it.
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
