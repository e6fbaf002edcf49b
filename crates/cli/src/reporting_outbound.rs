//! Sends HTTP requests of a command component. Denied requests are reported with the flag that would allow them.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_capabilities::outbound::{HostRule, OutboundClient, OutboundPolicy};
use isomer_console::Console;
use isomer_diagnostics::Diagnostic;
use isomer_manifest::{OutboundHost, Spanned};
use isomer_runtime::guest::{Outbound, Outgoing};
use isomer_runtime::{Denials, HttpError, RequestOptions, WasiBody};
use isomer_serve::network;

/// Sends the requests that `--allow` flags permit, and reports the requests that are denied.
pub(crate) struct ReportingOutbound {
    client: OutboundClient,
    console: Console,
}

impl ReportingOutbound {
    pub(crate) fn new(name: &str, allowed: &[Spanned<OutboundHost>], console: &Console) -> Self {
        let rules = allowed.iter().map(|host| HostRule::from(&host.value)).collect();
        let network = network::from_environment(|warning| console.message(&console.renderer().diagnostic(&warning)));
        Self { client: OutboundClient::new(network, OutboundPolicy::new(name, rules)), console: *console }
    }
}

impl Outbound for ReportingOutbound {
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
                        .note("the name resolves to this machine or to a private network")
                        .hint("allow the IP address itself, or everything: --allow '*'"),
                ),
                _ => None,
            };
            if let Some(denied) = denied {
                console.message(&console.renderer().diagnostic(&denied));
            }
            sent
        })
    }
}
