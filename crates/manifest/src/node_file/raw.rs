//! The keys of node files. This is the only place that defines a key, its type and its meaning.
//!
//! As in the types of manifests, every key is optional, because `structure.rs` reports missing and invalid keys.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::raw::PER_SECOND_MAX;
use crate::spanned::Spanned;
use crate::texts::{DurationText, EnvironmentText, HostText, NameText, PathText, SizeText, text_types};
use crate::units::show_duration;

use super::limits::NodeLimits;

/// The settings of a node, or of a process that runs a group of an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "node file")]
pub(crate) struct RawNodeFile {
    /// For `isomer node`: the data directory, and the maximum duration of a shutdown.
    pub(crate) node: Option<Spanned<RawNode>>,
    /// For `isomer node`: the addresses and certificates for clients of the apps. Command-line flags take precedence.
    pub(crate) front: Option<Spanned<RawFront>>,
    /// For `isomer node`: the address of the admin API.
    pub(crate) admin: Option<Spanned<RawAdmin>>,
    /// Settings for requests that apps send.
    pub(crate) outbound: Option<Spanned<RawOutbound>>,
    /// For `isomer node`: which requests are traced, and where telemetry is sent.
    pub(crate) telemetry: Option<Spanned<RawTelemetry>>,
    /// For `isomer node`: which keys must have signed the apps that tenants deploy.
    pub(crate) signatures: Option<Spanned<RawSignatures>>,
    /// For `isomer node`: limits. A request that exceeds a limit receives an error, or its connection is closed.
    pub(crate) limits: Option<Spanned<RawNodeLimits>>,
    /// For `isomer run --group`: the address at which this group listens for calls from other groups.
    pub(crate) link: Option<Spanned<RawLink>>,
    /// For `isomer run --group`: the addresses of the groups that this group calls, by the group's name. A group with
    /// several addresses has several replicas. For each call, two of the addresses are chosen at random, and the call
    /// is sent to the address with fewer calls in progress.
    #[serde(default)]
    pub(crate) peers: BTreeMap<Spanned<NameText>, Spanned<RawAddresses>>,
    /// For `isomer run --group`: the certificate of this group, and the authority whose certificates it trusts. Required
    /// if any address is on another machine, because groups on other machines are reached by mutual TLS only.
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// The data directory of a node, and the maximum duration of its shutdown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawNode {
    /// The data directory: the folder that holds everything the node keeps on disk.
    #[schemars(extend("examples" = ["/var/lib/isomer"]))]
    pub(crate) data: Option<Spanned<PathText>>,
    /// The maximum time that requests and deployments in progress may take to finish when the node shuts down.
    #[schemars(extend("default" = "30s"))]
    pub(crate) grace: Option<Spanned<DurationText>>,
}

/// The addresses and certificates for clients of the apps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFront {
    /// IP addresses and ports to listen on for HTTP without TLS. A bare port (`:80`) and `localhost:80` mean 127.0.0.1.
    pub(crate) listen: Option<Spanned<RawAddresses>>,
    /// IP addresses and ports to listen on for HTTP over TLS. A bare port (`:443`) and `localhost:443` mean 127.0.0.1.
    pub(crate) listen_tls: Option<Spanned<RawAddresses>>,
    /// Certificates. The host name that the client requests (SNI) selects one of them. The files are read again when
    /// the node receives SIGHUP.
    pub(crate) tls: Option<RawFrontTls>,
    /// Proxies in front of the node: IP addresses or ranges. One connection of a proxy carries requests of many
    /// clients, so `connections_per_address` does not apply to proxies. The client address that a proxy sends
    /// (`X-Forwarded-For`, `Forwarded`) is trusted.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<Spanned<AddressRangeText>>,
    /// Whether each connection of a trusted proxy begins with a header of the PROXY protocol (version 1 or 2). The
    /// connection is counted for the client address in the header, not for the proxy. A connection of a trusted proxy
    /// without the header is closed. The header is accepted only from trusted proxies.
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
}

/// Certificates of the front door.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawFrontTls {
    /// A folder of PEM files: `NAME.crt` (or `NAME.pem`) with a certificate and its intermediate certificates, and
    /// `NAME.key` with the private key of the certificate. A certificate is used for the host names that it contains.
    #[schemars(extend("examples" = ["/etc/isomer/certificates"]))]
    pub(crate) folder: Option<Spanned<PathText>>,
    /// The host name whose certificate is used for a client that requests no host name, or a host name without a
    /// certificate. Default: the first certificate of `certificates`; without `certificates`, these clients are
    /// refused.
    pub(crate) default: Option<Spanned<HostText>>,
    /// Certificates whose files must exist when the node starts, each in a table with a name of your choice.
    #[serde(default)]
    pub(crate) certificates: BTreeMap<Spanned<NameText>, RawCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "certificate")]
pub(crate) struct RawCertificate {
    /// PEM file with the certificate, followed by intermediate certificates.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with the private key of the certificate. Other users of the machine must not be able to read it.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
}

/// The address of the admin API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawAdmin {
    /// A loopback address or a Unix socket to listen on.
    #[schemars(required)]
    #[schemars(extend("examples" = ["127.0.0.1:7171"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
    /// Whether `listen` may be an address that other machines can reach. The admin API is not encrypted, so anyone who
    /// can read the network traffic gets the token.
    #[serde(default)]
    pub(crate) remote: bool,
    /// Host names under which the admin API accepts requests, in addition to IP addresses and `localhost`: for example,
    /// the name of a proxy in front of the node.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// Settings for requests that apps send.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawOutbound {
    /// PEM file with certificate authorities that HTTPS requests of all apps trust, in addition to the public
    /// authorities and those of `SSL_CERT_FILE`.
    #[schemars(extend("examples" = ["/etc/ssl/company.pem"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

/// Which requests are traced, and where telemetry is sent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawTelemetry {
    /// The fraction of the requests that are traced in full, from 0 to 1, of apps whose manifest does not set `sample`.
    #[schemars(range(min = 0, max = 1), extend("default" = 0.01))]
    pub(crate) sample: Option<Spanned<f64>>,
    /// The maximum of the fraction that the manifest of an app can set.
    #[schemars(range(min = 0, max = 1), extend("default" = 1.0))]
    pub(crate) sample_max: Option<Spanned<f64>>,
    /// The maximum number of requests of each app that are traced in a second. The manifest of an app can set a smaller
    /// number. Requests that `isomer trace --next` orders are traced in any case.
    #[schemars(range(min = 0, max = PER_SECOND_MAX), extend("default" = 50))]
    pub(crate) samples_per_second: Option<u32>,
    /// The duration from which a request that is not traced in full is kept as slow, for apps whose manifest does not
    /// set `slow`.
    #[schemars(extend("default" = "1s"))]
    pub(crate) slow: Option<Spanned<DurationText>>,
    /// The minimum of the duration `slow` that the manifest of an app can set.
    #[schemars(extend("default" = "100ms"))]
    pub(crate) slow_min: Option<Spanned<DurationText>>,
    /// A collector that accepts OTLP over HTTP. The variables `OTEL_*` take precedence
    /// ([guide](../guides/send-telemetry.md)).
    pub(crate) otlp: Option<Spanned<RawOtlp>>,
}

/// A collector that accepts OTLP over HTTP. The variables `OTEL_*` take precedence
/// ([guide](../guides/send-telemetry.md)).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawOtlp {
    /// The base URL of the collector.
    #[schemars(required)]
    #[schemars(extend("examples" = ["http://localhost:4318"]))]
    pub(crate) endpoint: Option<Spanned<UrlText>>,
    /// The signals that are sent: `"traces"`, `"logs"`, `"metrics"`. Default: all.
    pub(crate) signals: Option<Vec<Spanned<SignalText>>>,
    /// Header fields of each request to the collector, by name, with the sources of their values. They are not sent if
    /// an `OTEL_*` variable replaces the collector's URL.
    #[serde(default)]
    pub(crate) headers: BTreeMap<Spanned<HeaderText>, Spanned<RawHeader>>,
    /// PEM file with the certificate authorities that sign the collector's certificate. Default: the public
    /// authorities.
    #[schemars(extend("examples" = ["/etc/ssl/company.pem"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

/// The source of the value of a header field: either `env` or `file`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
#[schemars(extend("oneOf" = json!([{ "required": ["env"] }, { "required": ["file"] }])))]
pub(crate) struct RawHeader {
    /// The name of the environment variable that contains the value of the header field. The variable is read from the
    /// environment of the `isomer` process.
    pub(crate) env: Option<Spanned<EnvironmentText>>,
    /// A file that contains the value of the header field. A final newline is removed.
    #[schemars(extend("examples" = ["/etc/isomer/otlp-token"]))]
    pub(crate) file: Option<Spanned<PathText>>,
}

/// Which keys must have signed the apps that tenants deploy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawSignatures {
    /// PEM files with the public keys that may deploy for all tenants without a table in `tenants`. If the key is absent,
    /// these tenants need no signature: with only `[signatures.tenants.acme]`, every tenant but `acme` may deploy any app.
    #[schemars(extend("examples" = [["keys/release.pub"]]))]
    pub(crate) keys: Option<Spanned<Vec<PathText>>>,
    /// The keys of tenants, by the tenant's name.
    #[serde(default)]
    pub(crate) tenants: BTreeMap<Spanned<NameText>, Spanned<RawTenantSignatures>>,
}

/// The keys that may deploy for a tenant: either `keys` or `unsigned`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawTenantSignatures {
    /// PEM files with the public keys that may deploy for this tenant.
    #[schemars(extend("examples" = [["keys/acme.pub"]]))]
    pub(crate) keys: Option<Spanned<Vec<PathText>>>,
    /// Whether this tenant needs no signature.
    #[serde(default)]
    pub(crate) unsigned: bool,
}

/// Limits of a node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawNodeLimits {
    /// The maximum number of apps in memory. An app that is not in memory is loaded from disk by the next request for
    /// this app. Default: the number that `isomer doctor` reports for this machine, but at least 64 and at most 50,000.
    pub(crate) apps_loaded: Option<Spanned<u32>>,
    /// Free space of the data directory's file system that is reserved for the node's own state, audit log and code. A
    /// tenant's write fails if it would use this space.
    #[schemars(extend("default" = "256MiB"))]
    pub(crate) disk_reserve: Option<Spanned<SizeText>>,
    /// The maximum number of open connections. If the maximum is reached and another client connects, the node closes
    /// an idle connection of the address with the most connections: the one that has been idle for the longest time. If
    /// this address has no idle connection, the node closes an idle connection of the address with the next most
    /// connections. If all connections have a request in progress, the new connection is closed.
    #[schemars(extend("default" = 10_000))]
    pub(crate) connections: Option<Spanned<u32>>,
    /// The maximum number of open connections from one IPv4 address, or from one /64 network of IPv6. If the maximum is
    /// reached and the address opens another connection, its connection that has been idle for the longest time is
    /// closed. If all its connections have a request in progress, the new connection is closed. Default: a quarter of
    /// `connections`.
    pub(crate) connections_per_address: Option<Spanned<u32>>,
    /// The maximum number of requests in progress. Further requests receive the status 503.
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
    /// The maximum time that an idle connection stays open when the node shuts down, if its client sends nothing. A
    /// request that the client sends in this time receives a response, and then the connection is closed.
    #[schemars(extend("default" = "1s"))]
    pub(crate) idle_grace: Option<Spanned<DurationText>>,
    /// The maximum time between two pieces of a request's body.
    #[schemars(extend("default" = "30s"))]
    pub(crate) body_timeout: Option<Spanned<DurationText>>,
    /// The maximum time that a client may read nothing while data waits to be sent to it.
    #[schemars(extend("default" = "30s"))]
    pub(crate) write_timeout: Option<Spanned<DurationText>>,
    /// The maximum time that a request waits for its app to be loaded from disk.
    #[schemars(extend("default" = "30s"))]
    pub(crate) load_timeout: Option<Spanned<DurationText>>,
    /// The maximum `request_deadline` of a component. If a manifest sets a longer time, the node uses the maximum, and
    /// `isomer deploy` prints a warning.
    #[schemars(extend("default" = show_duration(NodeLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// The maximum `limits.stream` of a component, which limits the duration of a stream of server-sent events. If a
    /// manifest sets a longer time, the node uses the maximum, and `isomer deploy` prints a warning.
    #[schemars(extend("default" = show_duration(NodeLimits::STREAM_DEFAULT)))]
    pub(crate) stream: Option<Spanned<DurationText>>,
    /// The maximum `statement_timeout` of an SQL store. If a manifest sets a longer time, the node uses the maximum,
    /// and `isomer deploy` prints a warning.
    #[schemars(extend("default" = show_duration(NodeLimits::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
}

/// The address at which this group listens for calls from other groups.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawLink {
    /// The address to listen on. Without `[tls]`, it must be a loopback address or a Unix socket.
    #[schemars(required)]
    #[schemars(extend("examples" = ["0.0.0.0:7070"]))]
    pub(crate) listen: Option<Spanned<AddressText>>,
}

/// The addresses of a group: one address, or a list with the address of each replica.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawAddresses {
    One(AddressText),
    Several(Vec<AddressText>),
}

/// The certificate of this group, and the authority whose certificates it trusts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawTls {
    /// PEM file with this group's certificate, followed by intermediate certificates.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.crt"]))]
    pub(crate) certificate: Option<Spanned<PathText>>,
    /// PEM file with the private key of the certificate.
    #[schemars(required)]
    #[schemars(extend("examples" = ["node.key"]))]
    pub(crate) key: Option<Spanned<PathText>>,
    /// PEM file with the certificate of the authority that signed the certificates of all groups.
    #[schemars(required)]
    #[schemars(extend("examples" = ["authority.crt"]))]
    pub(crate) authority: Option<Spanned<PathText>>,
}

text_types! {
    /// The address of a group.
    AddressText: "address", json!({ "pattern": "^(unix:.+|.*:[0-9]+|[0-9]+)$" }), "10.0.0.7:7070";
    /// A range of IP addresses.
    AddressRangeText: "network", json!({ "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$" }), "10.0.0.0/8";
    /// The URL of a collector.
    UrlText: "URL", json!({ "pattern": "^https?://" }), "http://localhost:4318";
    /// A kind of telemetry.
    SignalText: "signal", json!({ "pattern": "^(traces|logs|metrics)$" }), "traces";
    /// The name of a header field.
    HeaderText: "name of a header field", json!({ "minLength": 1 }), "authorization";
}
