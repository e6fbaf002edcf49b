//! The keys of a node file: the only place where a key, its type and its meaning are written down.
//!
//! As with manifests, everything that may be wrong or missing is optional here, and `structure.rs` reports it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::raw::{NameText, PathText, text_types};
use crate::source::Spanned;

/// What one group of an app needs on a machine of its own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "node file")]
pub(crate) struct RawNodeFile {
    /// Where this group is reached by the others.
    pub(crate) link: Option<RawLink>,
    /// Where the groups are that this one calls, by the group's name. With several addresses the group runs several times, and
    /// each call goes to the less loaded of two of them.
    #[serde(default)]
    pub(crate) peers: BTreeMap<Spanned<NameText>, Spanned<RawAddresses>>,
    /// Who this node is and whom it believes. Needed wherever an address is not of this machine: groups on other machines are
    /// reached by mutual TLS alone.
    pub(crate) tls: Option<RawTls>,
}

/// Where this group is reached by the others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawLink {
    /// Where it listens. Without `[tls]` only a loopback address or a Unix socket will do.
    #[schemars(required)]
    #[schemars(extend("examples" = ["0.0.0.0:7070"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
}

/// Where that group is: one address, or one for each time it runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawAddresses {
    One(AddressText),
    Several(Vec<AddressText>),
}

/// Who this node is and whom it believes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawTls {
    /// PEM file with this node's certificate, then those between it and the authority, if there are any.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with the private key of the certificate.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
    /// PEM file with the certificate of the authority that signed those of all nodes.
    #[schemars(required)]
    #[schemars(extend("examples" = ["authority.crt"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

text_types! {
    /// Where a group listens or is reached.
    AddressText: "address", json!({ "pattern": "^(unix:.+|.+:[0-9]+)$" }), "10.0.0.7:7070";
}
