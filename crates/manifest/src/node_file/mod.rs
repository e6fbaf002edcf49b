//! The node file. It configures either a node (`isomer node`, [`NodeSettings`]), or a process that runs one group of an
//! app (`isomer run --group`): the group's address, the addresses of the groups that it calls, and the certificates by
//! which the groups' machines authenticate each other.
//!
//! Node files are read in the same steps as manifests (see `parser.rs`): syntax, structure by the schema of `raw.rs`,
//! meaning. Checks that need the plan are made by the caller, for example whether a group that is called has an
//! address.

mod address_range;
mod limits;
mod raw;
mod settings;
mod signatures;
mod telemetry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use toml::de::DeTable;

pub use address_range::AddressRange;
pub use limits::NodeLimits;
pub use settings::{FrontTls, NodeSampling, NodeSettings};
pub use signatures::{SignatureKeys, SignatureSettings};
pub use telemetry::OtlpExport;

use isomer_diagnostics::{Diagnostic, SourceFile, Span};
use isomer_ids::InvalidText;

use crate::address::LinkAddress;
use crate::bounds::Findings;
use crate::listen_address::with_host;
use crate::parser::syntax_errors;
use crate::schema::{as_text, schema_of};
use crate::spanned::Spanned;
use crate::structure;
use crate::texts::PathText;

use raw::{AddressText, RawAddresses, RawNodeFile, RawTls};

/// The schema of a node file.
pub(crate) static NODE_SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawNodeFile>);

/// The parsed contents of a node file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFile {
    /// The settings of a node that serves apps of tenants.
    pub node: NodeSettings,
    /// The address at which this group listens for calls from other groups.
    pub listen: Option<Spanned<LinkAddress>>,
    /// The addresses of the groups that this group calls, by the group's name. Each group has at least one address. The
    /// span of a key is the location of the group's name, and the span of a value is the location of the addresses.
    pub peers: BTreeMap<Spanned<String>, Spanned<Vec<LinkAddress>>>,
    /// The certificates for mutual TLS. Required if an address of this group or of a group that it calls is not on this
    /// machine.
    pub tls: Option<LinkTls>,
    for_node: settings::Tables,
    for_group: settings::Tables,
}

impl NodeFile {
    /// Returns an error for each table that only `isomer run --group` reads. Used when `isomer node` reads the file.
    #[must_use]
    pub fn unread_by_node(&self) -> Vec<Diagnostic> {
        settings::unread(&self.for_group, "isomer node", "isomer run --group")
    }

    /// Returns an error for each table that only `isomer node` reads. Used when `isomer run --group` reads the file.
    #[must_use]
    pub fn unread_by_group(&self) -> Vec<Diagnostic> {
        settings::unread(&self.for_node, "isomer run --group", "isomer node")
    }
}

/// The certificates of links between groups, as paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTls {
    /// The file with this group's certificate, followed by intermediate certificates.
    pub certificate: Spanned<PathBuf>,
    /// The file with the private key of the certificate.
    pub key: Spanned<PathBuf>,
    /// The file with the certificate of the authority that signed the certificates of all groups.
    pub authority: Spanned<PathBuf>,
}

/// Returns the JSON Schema of a node file, for editors. The text ends with a newline.
#[must_use]
pub fn node_schema_json() -> String {
    as_text(&NODE_SCHEMA)
}

/// Reads and checks a node file.
///
/// # Errors
/// Returns all problems if there are any, in the order of the file.
pub fn parse_node_file(source: &SourceFile) -> Result<NodeFile, Vec<Diagnostic>> {
    let mut found = Findings::default();
    let file = read(source.text(), &mut found);
    match (file, found.finish(source)) {
        (Some(file), found) if found.is_empty() => Ok(file),
        (_, found) => Err(found),
    }
}

fn read(text: &str, found: &mut Findings) -> Option<NodeFile> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        *found = syntax_errors(text, &errors);
        return None;
    }
    *found = structure::check(text, table.get_mut(), &NODE_SCHEMA, "the node file");
    let raw = match RawNodeFile::deserialize(toml::de::Deserializer::from(table)) {
        Ok(raw) => raw,
        Err(error) => {
            // The structural check should have reported this error. If it missed the error, the deserializer's message
            // is shown.
            let span = error.span().map(Span::from).unwrap_or_default();
            found.push(Diagnostic::error(error.message().trim()).code("structure").at(span, ""));
            return None;
        }
    };
    let tables = |tables: Vec<(&'static str, Option<Span>)>| {
        tables.into_iter().filter_map(|(table, span)| Some((table, span?))).collect()
    };
    let for_node = tables(vec![
        ("node", raw.node.as_ref().map(|table| table.span)),
        ("front", raw.front.as_ref().map(|table| table.span)),
        ("admin", raw.admin.as_ref().map(|table| table.span)),
        ("limits", raw.limits.as_ref().map(|table| table.span)),
        ("signatures", raw.signatures.as_ref().map(|table| table.span)),
        ("telemetry", raw.telemetry.as_ref().map(|table| table.span)),
    ]);
    let for_group = tables(vec![
        ("link", raw.link.as_ref().map(|table| table.span)),
        ("peers", raw.peers.first_key_value().map(|(group, _)| group.span)),
        ("tls", raw.tls.as_ref().map(|table| table.span)),
    ]);
    let admin = raw.admin.map(|admin| admin.value).unwrap_or_default();
    let (node, front) = (raw.node.map(|it| it.value), raw.front.map(|it| it.value));
    let outbound = raw.outbound.map(|it| it.value).unwrap_or_default();
    let telemetry = raw.telemetry.map(|it| it.value).unwrap_or_default();
    let signatures = raw.signatures.map(|it| signatures::read(it.value, found)).unwrap_or_default();
    let mut settings = settings::read(node, front, admin, outbound, telemetry, raw.limits.map(|it| it.value), found);
    settings.signatures = signatures;
    let mut report = |error: InvalidText, span| {
        let hint = error.hint();
        found.push(Diagnostic::error(error.to_string()).code("bad-address").at(span, "").hint(hint));
    };
    let mut address = |text: AddressText, span| text.0.parse().map_err(|error| report(error, span)).ok();
    let listen = raw.link.and_then(|link| link.value.listen);
    let listen = listen.and_then(|at| {
        let text = AddressText(with_host(&at.value.0).into_owned());
        Some(Spanned::new(address(text, at.span)?, at.span))
    });
    let mut peers = BTreeMap::new();
    let mut empty = vec![];
    for (group, written) in raw.peers {
        let span = written.span;
        let texts = match written.value {
            RawAddresses::One(text) => vec![text],
            RawAddresses::Several(texts) => texts,
        };
        if texts.is_empty() {
            let error = Diagnostic::error(format!("group `{}` has no address", group.value.0)).code("no-address");
            let error = error.at(span, "this list is empty");
            empty.push(error.hint(format!("write its address: {} = \"10.0.0.7:7070\"", group.value.0)));
        }
        let addresses = texts.into_iter().filter_map(|text| address(text, span)).collect();
        peers.insert(group.map(|text| text.0), Spanned::new(addresses, span));
    }
    empty.into_iter().for_each(|diagnostic| found.push(diagnostic));
    let tls = raw.tls.and_then(|raw| tls(raw.value));
    Some(NodeFile { node: settings, listen, peers, tls, for_node, for_group })
}

/// Returns `None` if a key is missing, which the structural check has reported.
fn tls(raw: RawTls) -> Option<LinkTls> {
    let path = |text: Spanned<PathText>| text.map(|text| PathBuf::from(text.0));
    Some(LinkTls { certificate: path(raw.certificate?), key: path(raw.key?), authority: path(raw.authority?) })
}
