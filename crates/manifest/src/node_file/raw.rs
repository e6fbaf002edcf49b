//! The keys of node files: the only place where a key, its type and its meaning are written down.
//!
//! As with manifests, everything that may be wrong or missing is optional here, and `structure.rs` reports it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::raw::{DurationText, HostText, NameText, PathText, SizeText, text_types};
use crate::spanned::Spanned;
use crate::units::show_duration;

use super::NodeLimits;

/// What a node needs: one that hosts apps, or one that runs a group of an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "node file")]
pub(crate) struct RawNodeFile {
    /// For `isomer node`: where it keeps what is deployed to it.
    pub(crate) node: Option<Spanned<RawHost>>,
    /// For `isomer node`: where clients of the apps are listened to. Command-line flags come first.
    pub(crate) front: Option<Spanned<RawFront>>,
    /// For `isomer node`: where admins are listened to.
    pub(crate) admin: Option<Spanned<RawAdmin>>,
    /// What outgoing requests of apps go through.
    pub(crate) outbound: Option<Spanned<RawOutbound>>,
    /// For `isomer node`: what it takes on. Reaching a limit is answered or closed, never waited for without end.
    pub(crate) limits: Option<Spanned<RawHostLimits>>,
    /// For `isomer run --group`: where this group is reached by the others.
    pub(crate) link: Option<Spanned<RawLink>>,
    /// For `isomer run --group`: where the groups are that this one calls, by the group's name. With several addresses the group runs
    /// several times, and each call goes to the less loaded of two of them.
    #[serde(default)]
    pub(crate) peers: BTreeMap<Spanned<NameText>, Spanned<RawAddresses>>,
    /// For `isomer run --group`: who this node is and whom it believes. Needed wherever an address is not of this machine: groups on
    /// other machines are reached by mutual TLS alone.
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// Where a node keeps what is deployed to it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawHost {
    /// Its data directory.
    #[schemars(extend("examples" = ["/var/lib/isomer"]))]
    pub(crate) data: Option<Spanned<PathText>>,
    /// How long running requests may take when the node is told to stop.
    #[schemars(extend("default" = "30s"))]
    pub(crate) grace: Option<Spanned<DurationText>>,
}

/// Where clients of the apps are listened to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFront {
    /// IP addresses and ports for HTTP without TLS. A port alone (`:80`) and `localhost:80` are 127.0.0.1.
    pub(crate) listen: Option<Spanned<RawAddresses>>,
    /// IP addresses and ports for HTTP over TLS, likewise.
    pub(crate) listen_tls: Option<Spanned<RawAddresses>>,
    /// Certificates: chosen by the host that a client names, read again when the node gets SIGHUP.
    pub(crate) tls: Option<RawFrontTls>,
    /// Proxies in front of the node: IP addresses, or networks of them. Their connections are of many clients, so
    /// `connections_per_address` does not hold for them, and what they say of a request's client (`X-Forwarded-For`, `Forwarded`) is believed.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<Spanned<NetworkText>>,
    /// Each connection of a trusted proxy begins with a header of the PROXY protocol (version 1 or 2), and is counted for the address that
    /// it names. One without is closed. Other clients cannot send it.
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// Certificates of the front door.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFrontTls {
    /// A folder of PEM files: `NAME.crt` (or `NAME.pem`) with a certificate and those between it and its authority, `NAME.key` with its
    /// private key. They are for the hosts that the certificates name.
    #[schemars(extend("examples" = ["/etc/isomer/certificates"]))]
    pub(crate) folder: Option<Spanned<PathText>>,
    /// The host whose certificate is shown to clients that name no host, or one without a certificate. They are turned away where this is
    /// absent and there are no `certificates`, of which the first is shown else.
    pub(crate) default: Option<Spanned<HostText>>,
    /// Certificates that must be there, by any name.
    #[serde(default)]
    pub(crate) certificates: BTreeMap<Spanned<NameText>, RawCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "certificate")]
pub(crate) struct RawCertificate {
    /// PEM file with the certificate, then those between it and its authority.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with its private key. Other users of the machine must not be able to read it.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
}

/// Where admins are listened to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawAdmin {
    /// A loopback address or a Unix socket.
    #[schemars(required)]
    #[schemars(extend("examples" = ["127.0.0.1:7171"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
    /// Listen on an address that others reach. The admin API is not encrypted: anyone who can read the connection gets the token.
    #[serde(default)]
    pub(crate) remote: bool,
    /// Names under which it may be asked, beside addresses and `localhost`: those of a proxy in front of it.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// What outgoing requests of apps go through.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawOutbound {
    /// PEM file with certificate authorities that outgoing HTTPS of all apps trusts, beside the public ones and those of `SSL_CERT_FILE`.
    #[schemars(extend("examples" = ["/etc/ssl/company.pem"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

/// What a node takes on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawHostLimits {
    /// Apps in memory. The others lie on disk until their next request. Where it is absent, as many as `isomer doctor` says that the
    /// machine has room for, but at least 64 and at most 50,000.
    pub(crate) apps_loaded: Option<Spanned<u32>>,
    /// Free space of the data directory's file system that tenants' writes leave: for the node's own state, audit log and code.
    #[schemars(extend("default" = "256MiB"))]
    pub(crate) disk_reserve: Option<Spanned<SizeText>>,
    /// Open connections. For a further one, the connection is closed that has been without a request for the longest time, of the address
    /// that has the most; if all have one in progress, the new connection is closed.
    #[schemars(extend("default" = 10_000))]
    pub(crate) connections: Option<Spanned<u32>>,
    /// Open connections from one IPv4 address, or from one /64 of IPv6. For a further one, one of its own is closed in the same way. Where
    /// it is absent, a quarter of `connections`.
    pub(crate) connections_per_address: Option<Spanned<u32>>,
    /// Requests that are served at once. Further ones are answered with 503.
    #[schemars(extend("default" = 4_096))]
    pub(crate) requests: Option<Spanned<u32>>,
    /// Header fields of a request.
    #[schemars(extend("default" = 100))]
    pub(crate) headers: Option<Spanned<u32>>,
    /// Size of a request's head.
    #[schemars(extend("default" = "64KiB"))]
    pub(crate) head: Option<Spanned<SizeText>>,
    /// Streams of one connection of HTTP/2.
    #[schemars(extend("default" = 128))]
    pub(crate) streams: Option<Spanned<u32>>,
    /// For a TLS handshake.
    #[schemars(extend("default" = "10s"))]
    pub(crate) handshake_timeout: Option<Spanned<DurationText>>,
    /// For a request's head to be complete, and how long a connection may be idle.
    #[schemars(extend("default" = "30s"))]
    pub(crate) head_timeout: Option<Spanned<DurationText>>,
    /// How long a client that has an idle connection may be silent when the node stops. A request that it had sent before it could know is
    /// answered; then the connection is closed.
    #[schemars(extend("default" = "1s"))]
    pub(crate) idle_grace: Option<Spanned<DurationText>>,
    /// Between two pieces of a request's body.
    #[schemars(extend("default" = "30s"))]
    pub(crate) body_timeout: Option<Spanned<DurationText>>,
    /// How long a client may not read while there is something to write.
    #[schemars(extend("default" = "30s"))]
    pub(crate) write_timeout: Option<Spanned<DurationText>>,
    /// How long a request waits for an app that has to come from disk.
    #[schemars(extend("default" = "30s"))]
    pub(crate) load_timeout: Option<Spanned<DurationText>>,
    /// The longest `request_deadline` of a component. A longer one of a manifest is cut to it, and `isomer deploy` says so.
    #[schemars(extend("default" = show_duration(NodeLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// The longest `limits.stream` of a component: how long a stream of server-sent events may take. A longer one of a manifest is cut to
    /// it, and `isomer deploy` says so.
    #[schemars(extend("default" = show_duration(NodeLimits::STREAM_DEFAULT)))]
    pub(crate) stream: Option<Spanned<DurationText>>,
    /// The longest `statement_timeout` of a SQL store. A longer one of a manifest is cut to it, and `isomer deploy` says so.
    #[schemars(extend("default" = show_duration(NodeLimits::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
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
    AddressText: "address", json!({ "pattern": "^(unix:.+|.*:[0-9]+|[0-9]+)$" }), "10.0.0.7:7070";
    /// IP addresses.
    NetworkText: "network", json!({ "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$" }), "10.0.0.0/8";
}
