//! What is signed: a statement about an artifact (in-toto attestation framework, version 1).

use std::collections::BTreeMap;

use isomer_ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The type of a statement.
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The predicate type of a statement that claims only that the key's owner signs the artifact. `cosign sign` creates
/// the same statement.
pub const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// The maximum number of subjects of a statement.
const SUBJECTS_MAX: usize = 1000;

/// A statement about artifacts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// The artifacts.
    pub subject: Vec<Subject>,
    /// The type of `predicate`, which determines the meaning of the statement.
    pub predicate_type: String,
    /// The content of the statement.
    #[serde(default)]
    pub predicate: Value,
}

/// An artifact that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// A name for people, which is not checked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The digests of the artifact, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// Creates a statement about an artifact.
    #[must_use]
    pub fn new(name: &str, digest: &Digest, predicate_type: &str, predicate: Value) -> Self {
        let digest = [("sha256".to_owned(), digest.to_string())].into();
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject { name: name.to_owned(), digest }],
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// Creates a statement that only signs an artifact: see [`SIGNATURE_PREDICATE`].
    #[must_use]
    pub fn signature(digest: &Digest) -> Self {
        Self::new("", digest, SIGNATURE_PREDICATE, Value::Object(serde_json::Map::new()))
    }

    /// Returns whether the statement is about the artifact with this digest.
    #[must_use]
    pub fn is_about(&self, digest: &Digest) -> bool {
        self.subject.iter().any(|subject| subject.digest.get("sha256").is_some_and(|found| found == digest.as_str()))
    }

    /// Returns whether this is a statement of the known version and of a limited size.
    pub(crate) fn is_valid(&self) -> bool {
        self.kind == STATEMENT_TYPE && self.subject.len() <= SUBJECTS_MAX
    }
}
