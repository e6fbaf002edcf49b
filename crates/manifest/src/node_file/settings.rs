//! The settings of a node that serves apps of many tenants (`isomer node`): data directory, addresses, certificates,
//! limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::InvalidText;

use super::AddressRange;
use super::limits::NodeLimits;
use super::raw::{
    AddressRangeText, AddressText, RawAddresses, RawAdmin, RawFront, RawFrontTls, RawNode, RawNodeLimits, RawOutbound,
    RawTelemetry,
};
use super::signatures::SignatureSettings;
use super::telemetry::{self, OtlpExport};
use crate::address::LinkAddress;
use crate::bounds::Findings;
use crate::listen_address::{parse_listen, with_host};
use crate::model::Sampling;
use crate::spanned::Spanned;
use crate::units::{parse_duration, parse_size};

/// The settings of a node. A setting that is absent comes from the command line or has the platform's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSettings {
    /// The path of the data directory, as written.
    pub data: Option<Spanned<PathBuf>>,
    /// The maximum time that requests in progress may take to finish when the node shuts down.
    pub grace: Option<Duration>,
    /// The addresses at which the front door listens for HTTP without TLS.
    pub listen: Vec<Spanned<SocketAddr>>,
    /// The addresses at which the front door listens for HTTP over TLS. They require certificates.
    pub listen_tls: Vec<Spanned<SocketAddr>>,
    /// The certificates of the front door.
    pub tls: Option<FrontTls>,
    /// The addresses of proxies whose information about clients is trusted.
    pub trusted_proxies: Vec<Spanned<AddressRange>>,
    /// Whether each connection of a trusted proxy begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The address at which the admin API listens.
    pub admin_listen: Option<Spanned<LinkAddress>>,
    /// Whether the admin API may listen on an address that other machines can reach.
    pub admin_remote: bool,
    /// The host names under which the admin API accepts requests, in addition to IP addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// The path of a PEM file, as written, with certificate authorities that HTTPS requests of apps trust in addition
    /// to the public ones.
    pub outbound_authority: Option<Spanned<PathBuf>>,
    /// Which requests of apps are traced in full.
    pub sampling: NodeSampling,
    /// The collector to which telemetry is sent.
    pub otlp: Option<OtlpExport>,
    /// Which keys must have signed the apps of tenants.
    pub signatures: SignatureSettings,
    /// The node's limits.
    pub limits: NodeLimits,
}

/// Which requests of a node's apps are traced in full. A setting that is absent has the platform's default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NodeSampling {
    /// The sampling settings of apps whose manifest sets none. `per_second_max` is also the maximum that a manifest can
    /// set.
    pub default: Sampling,
    /// The maximum of the fraction that a manifest can set.
    pub fraction_max: Option<f64>,
    /// The minimum of the duration of slow requests that a manifest can set.
    pub slow_min: Option<Duration>,
}

/// The certificates of the front door, as paths of PEM files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrontTls {
    /// A folder of `NAME.crt` (or `NAME.pem`) and `NAME.key` files.
    pub folder: Option<Spanned<PathBuf>>,
    /// The host name whose certificate is used for clients that request no host name, or a host name without a
    /// certificate.
    pub default: Option<Spanned<String>>,
    /// The certificates in addition to those in `folder`, ordered by the names of their tables: the file of the
    /// certificate and the file of its key.
    pub certificates: Vec<(Spanned<PathBuf>, Spanned<PathBuf>)>,
}

/// Converts the tables of a node file to settings, and reports invalid values.
pub(super) fn read(
    node: Option<RawNode>,
    front: Option<RawFront>,
    admin: RawAdmin,
    outbound: RawOutbound,
    telemetry: RawTelemetry,
    limits: Option<RawNodeLimits>,
    found: &mut Findings,
) -> NodeSettings {
    let (node, front, limits) = (node.unwrap_or_default(), front.unwrap_or_default(), limits.unwrap_or_default());
    let RawTelemetry { sample, sample_max, samples_per_second, slow, slow_min, otlp } = telemetry;
    let otlp = otlp.and_then(|raw| telemetry::read(raw.value, found));
    let names_no_proxies = front.trusted_proxies.is_empty();
    let mut reader = Reader { found };
    let sampling = NodeSampling {
        default: Sampling {
            fraction: sample.map(|sample| sample.value),
            per_second_max: samples_per_second,
            slow: reader.duration(slow.map(|text| text.map(|text| text.0))),
        },
        fraction_max: sample_max.map(|sample| sample.value),
        slow_min: reader.duration(slow_min.map(|text| text.map(|text| text.0))),
    };
    let file = NodeSettings {
        data: node.data.map(|path| path.map(|text| PathBuf::from(text.0))),
        grace: reader.duration(node.grace.map(|text| text.map(|text| text.0))),
        listen: reader.sockets(front.listen),
        listen_tls: reader.sockets(front.listen_tls),
        tls: front.tls.map(tls),
        trusted_proxies: front.trusted_proxies.into_iter().filter_map(|text| reader.address_range(text)).collect(),
        proxy_protocol: front.proxy_protocol,
        admin_listen: admin
            .listen
            .and_then(|at| reader.value(at.map(|text| text.0), "bad-address", |text| with_host(text).parse())),
        admin_remote: admin.remote,
        admin_hosts: admin.hosts,
        outbound_authority: outbound.authority.map(|path| path.map(|text| PathBuf::from(text.0))),
        sampling,
        otlp,
        signatures: SignatureSettings::default(),
        limits: reader.limits(limits),
    };
    if let (Some(at), None) = (file.listen_tls.first(), &file.tls) {
        let error = Diagnostic::error("listening with TLS requires certificates").code("missing-certificates");
        found.push(error.at(at.span, "").hint("name a folder:\n[front.tls]\nfolder = \"certificates\""));
    }
    if file.proxy_protocol && names_no_proxies {
        let error = Diagnostic::error("`proxy_protocol` has no effect without trusted proxies").code("missing-proxies");
        found.push(error.hint("name their addresses:\n[front]\ntrusted_proxies = [\"10.0.0.7\"]"));
    }
    file
}

fn tls(raw: RawFrontTls) -> FrontTls {
    let certificates = raw.certificates.into_values().filter_map(|pair| Some((pair.certificate?, pair.key?)));
    FrontTls {
        folder: raw.folder.map(|path| path.map(|text| PathBuf::from(text.0))),
        default: raw.default.map(|host| host.map(|text| text.0)),
        certificates: certificates
            .map(|(certificate, key)| (certificate.map(|text| text.0.into()), key.map(|text| text.0.into())))
            .collect(),
    }
}

struct Reader<'a> {
    found: &'a mut Findings,
}

impl Reader<'_> {
    fn value<T>(
        &mut self,
        text: Spanned<String>,
        code: &'static str,
        parse: impl FnOnce(&str) -> Result<T, InvalidText>,
    ) -> Option<Spanned<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Spanned::new(value, text.span)),
            Err(error) => {
                let hint = error.hint();
                self.found.push(Diagnostic::error(error.to_string()).code(code).at(text.span, "").hint(hint));
                None
            }
        }
    }

    fn duration(&mut self, text: Option<Spanned<String>>) -> Option<Duration> {
        Some(self.value(text?, "bad-duration", parse_duration)?.value)
    }

    fn sockets(&mut self, written: Option<Spanned<RawAddresses>>) -> Vec<Spanned<SocketAddr>> {
        let Some(Spanned { value, span }) = written else { return Vec::new() };
        let texts = match value {
            RawAddresses::One(text) => vec![text],
            RawAddresses::Several(texts) => texts,
        };
        let read = |text: AddressText| self.value(Spanned::new(text.0, span), "bad-address", parse_listen);
        texts.into_iter().filter_map(read).collect()
    }

    fn address_range(&mut self, text: Spanned<AddressRangeText>) -> Option<Spanned<AddressRange>> {
        self.value(text.map(|text| text.0), "bad-network", |text| text.parse())
    }

    /// Returns a limit that is a count. Reports an error if the limit is 0, because the node could then serve nothing.
    fn count(&mut self, written: Option<Spanned<u32>>) -> Option<u32> {
        let Spanned { value, span } = written?;
        if value == 0 {
            let error = Diagnostic::error("a limit must not be 0").code("bad-limit");
            self.found.push(error.at(span, "").hint("write a number of 1 or more, or remove the key"));
            return None;
        }
        Some(value)
    }

    fn limits(&mut self, raw: RawNodeLimits) -> NodeLimits {
        let head = raw.head.map(|text| text.map(|text| text.0));
        let reserve = raw.disk_reserve.map(|text| text.map(|text| text.0));
        let mut time =
            |text: Option<Spanned<crate::texts::DurationText>>| self.duration(text.map(|it| it.map(|it| it.0)));
        let (handshake_timeout, head_timeout) = (time(raw.handshake_timeout), time(raw.head_timeout));
        let idle_grace = time(raw.idle_grace);
        let (body_timeout, write_timeout) = (time(raw.body_timeout), time(raw.write_timeout));
        let load_timeout = time(raw.load_timeout);
        let (request_deadline, statement_timeout) = (time(raw.request_deadline), time(raw.statement_timeout));
        let stream = time(raw.stream);
        NodeLimits {
            apps_loaded: self.count(raw.apps_loaded),
            disk_reserve: reserve.and_then(|text| Some(self.value(text, "bad-size", parse_size)?.value)),
            connections: self.count(raw.connections),
            connections_per_address: self.count(raw.connections_per_address),
            requests: self.count(raw.requests),
            headers: self.count(raw.headers),
            head_bytes: head.and_then(|text| Some(self.value(text, "bad-size", parse_size)?.value)),
            streams: self.count(raw.streams),
            handshake_timeout,
            head_timeout,
            idle_grace,
            body_timeout,
            write_timeout,
            load_timeout,
            request_deadline,
            stream,
            statement_timeout,
        }
    }
}

/// The names and locations of tables that only `isomer node`, or only `isomer run --group`, reads.
pub(super) type Tables = Vec<(&'static str, Span)>;

/// Returns an error for each table in `tables`. `who` is the command that does not read these tables; `instead` is the
/// command that reads them, which the hint names.
pub(super) fn unread(tables: &Tables, who: &str, instead: &str) -> Vec<Diagnostic> {
    let one = |(table, span): &(&'static str, Span)| {
        Diagnostic::error(format!("`{who}` does not read `[{table}]`"))
            .code("unread-table")
            .at(*span, "")
            .hint(format!("remove the table: only `{instead}` reads it"))
    };
    tables.iter().map(one).collect()
}
