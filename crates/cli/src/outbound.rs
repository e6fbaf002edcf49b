//! The network of this process, and a command's way out over HTTP, which tells the person in front what was denied and which flag would
//! allow it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_capabilities::outbound::{HostRule, OutboundClient, OutboundNetwork, OutboundPolicy};
use isomer_manifest::{Diagnostic, HostFile, OutboundHost, SourceFile, Spanned};
use isomer_runtime::guest::{Outbound, Outgoing};
use isomer_runtime::{Denials, HttpError, RequestOptions, WasiBody};

use crate::console::Console;
use crate::fail::Fail;

/// What requests are sent through: with the authorities that `SSL_CERT_FILE` names, which other programs read, too. If they cannot be
/// read, `warn` is told, and the public ones alone are trusted: most apps need no others.
pub(crate) fn network(warn: impl FnOnce(Diagnostic)) -> OutboundNetwork {
    let network = OutboundNetwork::default();
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return network;
    };
    match network.authorities().with_file(&path, &path) {
        Ok(trusted) => network.trusting(trusted),
        Err(error) => {
            let mut warning = Diagnostic::warning(error.to_string());
            if let Some(cause) = std::error::Error::source(&error) {
                warning = warning.note(cause.to_string());
            }
            warn(warning.hint("`SSL_CERT_FILE` in the environment names it; only public authorities are trusted now"));
            network
        }
    }
}

/// The network, which also trusts the authorities that a node file names. The file's paths start at `dir`.
///
/// # Errors
/// When they cannot be read, with the place in the node file.
pub(crate) fn with_authority(
    network: OutboundNetwork,
    file: &HostFile,
    dir: &Path,
    source: &SourceFile,
) -> Result<OutboundNetwork, Fail> {
    let Some(written) = &file.outbound_authority else { return Ok(network) };
    let trusted = network.authorities().with_file(&dir.join(&written.value), &written.value);
    let trusted = trusted.map_err(|error| {
        let finding = Diagnostic::error(error.to_string()).code("unreadable-file").at(written.span, "");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let finding = cause.into_iter().fold(finding, Diagnostic::note);
        Fail::manifest(vec![finding.hint("the path starts at the node file's folder")], source)
    })?;
    Ok(network.trusting(trusted))
}

/// Sends what the flags allow.
pub(crate) struct TellingOutbound {
    client: OutboundClient,
    console: Console,
}

impl TellingOutbound {
    pub(crate) fn new(name: &str, allowed: &[Spanned<OutboundHost>], console: &Console) -> Self {
        let rules = allowed.iter().map(|host| HostRule::from(&host.value)).collect();
        let network = network(|warning| console.say(&console.renderer().diagnostic(&warning)));
        Self { client: OutboundClient::new(network, OutboundPolicy::new(name, rules)), console: *console }
    }
}

impl Outbound for TellingOutbound {
    fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Option<&Arc<Denials>>,
    ) -> BoxFuture<'static, Result<Outgoing, HttpError>> {
        let (client, console) = (self.client.clone(), self.console);
        Box::pin(async move {
            let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let sent = OutboundClient::send(&client, request, options).await;
            let denied = match &sent {
                Err(HttpError::HttpRequestDenied) => Some(
                    Diagnostic::warning(format!("an HTTP request to `{authority}` was denied"))
                        .hint(format!("--allow {authority}")),
                ),
                Err(HttpError::DestinationIpProhibited) => Some(
                    Diagnostic::warning(format!("an HTTP request to `{authority}` was denied"))
                        .note("the name leads to this machine or to a private network")
                        .hint("allow the IP address itself, or everything: --allow '*'"),
                ),
                _ => None,
            };
            if let Some(denied) = denied {
                console.say(&console.renderer().diagnostic(&denied));
            }
            sent
        })
    }
}
