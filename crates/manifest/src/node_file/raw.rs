//! The keys of node files: the only place that defines a key, its type and its meaning.
//!
//! As with manifests, every key is optional here, and `structure.rs` reports what is missing or wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::raw::{DurationText, HostText, NameText, PathText, SizeText, text_types};
use crate::spanned::Spanned;
use crate::units::show_duration;

use super::limits::NodeLimits;

/// The settings of a node, or of a process that runs a group of an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "node file")]
pub(crate) struct RawNodeFile {
    /// For `isomer node`: where it stores its data.
    pub(crate) node: Option<Spanned<RawNode>>,
    /// For `isomer node`: where it listens for clients of the apps. Command-line flags take precedence.
    pub(crate) front: Option<Spanned<RawFront>>,
    /// For `isomer node`: where it listens for admins.
    pub(crate) admin: Option<Spanned<RawAdmin>>,
    /// Settings of outgoing requests of apps.
    pub(crate) outbound: Option<Spanned<RawOutbound>>,
    /// For `isomer node`: limits. A request that exceeds a limit is answered with an error, or its connection is
    /// closed; nothing waits forever.
    pub(crate) limits: Option<Spanned<RawNodeLimits>>,
    /// For `isomer run --group`: the address on which the other groups reach this one.
    pub(crate) link: Option<Spanned<RawLink>>,
    /// For `isomer run --group`: the addresses of the groups that this one calls, by the group's name. A group with
    /// several addresses runs several times, and each call goes to one of two addresses chosen at random: the one with
    /// fewer calls in progress.
    #[serde(default)]
    pub(crate) peers: BTreeMap<Spanned<NameText>, Spanned<RawAddresses>>,
    /// For `isomer run --group`: this node's certificate and the authority that it trusts. Required if any address is
    /// on another machine: groups on other machines are reached by mutual TLS only.
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// Where a node stores its data.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawNode {
    /// The data directory.
    #[schemars(extend("examples" = ["/var/lib/isomer"]))]
    pub(crate) data: Option<Spanned<PathText>>,
    /// How long running requests may take when the node shuts down.
    #[schemars(extend("default" = "30s"))]
    pub(crate) grace: Option<Spanned<DurationText>>,
}

/// Where the node listens for clients of the apps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFront {
    /// IP addresses and ports for HTTP without TLS. A bare port (`:80`) and `localhost:80` mean 127.0.0.1.
    pub(crate) listen: Option<Spanned<RawAddresses>>,
    /// IP addresses and ports for HTTP over TLS, written the same way.
    pub(crate) listen_tls: Option<Spanned<RawAddresses>>,
    /// Certificates. The host name that the client requests (SNI) selects one. They are read again when the node
    /// receives SIGHUP.
    pub(crate) tls: Option<RawFrontTls>,
    /// Proxies in front of the node: IP addresses or ranges. Their connections carry many clients, so
    /// `connections_per_address` does not apply to them, and the client address that they send (`X-Forwarded-For`,
    /// `Forwarded`) is trusted.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<Spanned<AddressRangeText>>,
    /// Each connection of a trusted proxy begins with a header of the PROXY protocol (version 1 or 2) and is counted
    /// for the client address in the header. A connection without the header is closed. Other clients cannot send the
    /// header.
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// Certificates of the front door.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFrontTls {
    /// A folder of PEM files: `NAME.crt` (or `NAME.pem`) with a certificate and its intermediate certificates,
    /// `NAME.key` with its private key. They are used for the host names in the certificates.
    #[schemars(extend("examples" = ["/etc/isomer/certificates"]))]
    pub(crate) folder: Option<Spanned<PathText>>,
    /// The host whose certificate is used for clients that request no host name, or one without a certificate. Default:
    /// the first of `certificates`; without `certificates`, these clients are refused.
    pub(crate) default: Option<Spanned<HostText>>,
    /// Certificates that must exist at the start. The names of the tables are arbitrary.
    #[serde(default)]
    pub(crate) certificates: BTreeMap<Spanned<NameText>, RawCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "certificate")]
pub(crate) struct RawCertificate {
    /// PEM file with the certificate, followed by its intermediate certificates.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with the private key of the certificate. Other users of the machine must not be able to read it.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
}

/// Where the node listens for admins.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawAdmin {
    /// A loopback address or a Unix socket.
    #[schemars(required)]
    #[schemars(extend("examples" = ["127.0.0.1:7171"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
    /// Whether `listen` may be an address that other machines can reach. The admin API is not encrypted: anyone who can
    /// read the connection gets the token.
    #[serde(default)]
    pub(crate) remote: bool,
    /// Host names under which the admin API accepts requests, in addition to addresses and `localhost`, for example the
    /// name of a proxy in front of the node.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// Settings of outgoing requests of apps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawOutbound {
    /// PEM file with certificate authorities that outgoing HTTPS of all apps trusts in addition to the public ones and
    /// those of `SSL_CERT_FILE`.
    #[schemars(extend("examples" = ["/etc/ssl/company.pem"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

/// Limits of a node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawNodeLimits {
    /// The maximum number of apps in memory. Other apps are loaded from disk by their next request. Default: the number
    /// that `isomer doctor` reports for this machine, but at least 64 and at most 50,000.
    pub(crate) apps_loaded: Option<Spanned<u32>>,
    /// Free space of the data directory's file system that tenants' writes must leave for the node's own state, audit
    /// log and code.
    #[schemars(extend("default" = "256MiB"))]
    pub(crate) disk_reserve: Option<Spanned<SizeText>>,
    /// The maximum number of open connections. If another client connects, a connection of the address with the most
    /// connections is closed: the one that has been idle for the longest time. If all connections have a request in
    /// progress, the new connection is closed.
    #[schemars(extend("default" = 10_000))]
    pub(crate) connections: Option<Spanned<u32>>,
    /// The maximum number of open connections from one IPv4 address, or from one /64 network of IPv6. If the address
    /// opens another connection, one of its own connections is closed in the same way. Default: a quarter of
    /// `connections`.
    pub(crate) connections_per_address: Option<Spanned<u32>>,
    /// The maximum number of requests in progress. Further requests are answered with 503.
    #[schemars(extend("default" = 4_096))]
    pub(crate) requests: Option<Spanned<u32>>,
    /// The maximum number of header fields of a request.
    #[schemars(extend("default" = 100))]
    pub(crate) headers: Option<Spanned<u32>>,
    /// The maximum size of a request's head.
    #[schemars(extend("default" = "64KiB"))]
    pub(crate) head: Option<Spanned<SizeText>>,
    /// The maximum number of concurrent streams of one HTTP/2 connection.
    #[schemars(extend("default" = 128))]
    pub(crate) streams: Option<Spanned<u32>>,
    /// The maximum duration of a TLS handshake.
    #[schemars(extend("default" = "10s"))]
    pub(crate) handshake_timeout: Option<Spanned<DurationText>>,
    /// The maximum time until a request's head is complete, and the maximum time for which a connection may be idle.
    #[schemars(extend("default" = "30s"))]
    pub(crate) head_timeout: Option<Spanned<DurationText>>,
    /// How long the client of an idle connection may be silent when the node shuts down. A request that was sent before
    /// the client could know of the shutdown is answered; then the connection is closed.
    #[schemars(extend("default" = "1s"))]
    pub(crate) idle_grace: Option<Spanned<DurationText>>,
    /// The maximum time between two pieces of a request's body.
    #[schemars(extend("default" = "30s"))]
    pub(crate) body_timeout: Option<Spanned<DurationText>>,
    /// How long a client may stop reading while there is something to write.
    #[schemars(extend("default" = "30s"))]
    pub(crate) write_timeout: Option<Spanned<DurationText>>,
    /// How long a request waits for an app to be loaded from disk.
    #[schemars(extend("default" = "30s"))]
    pub(crate) load_timeout: Option<Spanned<DurationText>>,
    /// The maximum `request_deadline` of a component. A longer one in a manifest is reduced to it, with a warning from
    /// `isomer deploy`.
    #[schemars(extend("default" = show_duration(NodeLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// The maximum `limits.stream` of a component: the time limit of a stream of server-sent events. A longer one in a
    /// manifest is reduced to it, with a warning from `isomer deploy`.
    #[schemars(extend("default" = show_duration(NodeLimits::STREAM_DEFAULT)))]
    pub(crate) stream: Option<Spanned<DurationText>>,
    /// The maximum `statement_timeout` of a SQL store. A longer one in a manifest is reduced to it, with a warning from
    /// `isomer deploy`.
    #[schemars(extend("default" = show_duration(NodeLimits::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
}

/// The address on which this group is reached by the others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawLink {
    /// The address to listen on. Without `[tls]`, it must be a loopback address or a Unix socket.
    #[schemars(required)]
    #[schemars(extend("examples" = ["0.0.0.0:7070"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
}

/// The addresses of a group: one, or one for each process that runs it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawAddresses {
    One(AddressText),
    Several(Vec<AddressText>),
}

/// This node's certificate and the authority that it trusts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawTls {
    /// PEM file with this node's certificate, followed by its intermediate certificates.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with the private key of the certificate.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
    /// PEM file with the certificate of the authority that signed the certificates of all nodes.
    #[schemars(required)]
    #[schemars(extend("examples" = ["authority.crt"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

text_types! {
    /// An address of a group.
    AddressText: "address", json!({ "pattern": "^(unix:.+|.*:[0-9]+|[0-9]+)$" }), "10.0.0.7:7070";
    /// IP addresses.
    AddressRangeText: "network", json!({ "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$" }), "10.0.0.0/8";
}
