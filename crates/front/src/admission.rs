//! The layer that finds the app of a request, admits the request, and waits while the app is loaded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;

use crate::access_log::AccessLine;
use crate::activity::Activity;
use crate::forwarded::Endpoints;
use crate::handler::Handler;
use crate::host::{self, RequestedHost};
use crate::problem::{HOST, MISDIRECTED, NOT_LOADED, Problem};
use crate::refusal::Refusal;
use crate::resolver::{ResolvedSite, SiteLookup, SiteResolver};
use crate::response_body::RequestPermits;
use crate::site::SiteInUse;
use crate::tls::TlsSession;

/// The layer that finds the app by the request's host name and admits the request.
pub(crate) struct Admission<H: Handler> {
    resolver: Arc<dyn SiteResolver<H>>,
    load_timeout: Duration,
}

impl<H: Handler> Admission<H> {
    pub(crate) fn new(resolver: Arc<dyn SiteResolver<H>>, load_timeout: Duration) -> Self {
        Self { resolver, load_timeout }
    }

    /// Admits a request that arrived at `start`, and waits while its app is loaded, if the app is not in memory. Also
    /// returns the authority that the request is for.
    pub(crate) async fn admit(
        &self,
        host: RequestedHost,
        start: Instant,
        permits: &mut RequestPermits,
        access: Option<&mut AccessLine>,
    ) -> Result<(SiteInUse<H>, Authority), Problem> {
        let (ResolvedSite { permit, site }, authority) = self.resolve(host, &permits.connection, access)?;
        permits.tenant = permit;
        let site = match site {
            SiteLookup::Ready(site) => site,
            SiteLookup::Loading(load) => {
                match tokio::time::timeout_at((start + self.load_timeout).into(), load).await {
                    Ok(loaded) => loaded.map_err(|refusal| Problem::from_refusal(&refusal))?,
                    Err(_) => return Err(NOT_LOADED),
                }
            }
        };
        Ok((site, authority))
    }

    fn resolve(
        &self,
        host: RequestedHost,
        connection: &Activity,
        access: Option<&mut AccessLine>,
    ) -> Result<(ResolvedSite<H>, Authority), Problem> {
        let authority = match host {
            RequestedHost::Named(authority) => Some(authority),
            // A request without a host is for the host that the client named in the TLS handshake, if any.
            RequestedHost::Unnamed => {
                let named = connection.tls().and_then(TlsSession::named);
                named.map(|name| name.parse().map_err(|_| HOST)).transpose()?
            }
        };
        match authority {
            Some(authority) => Ok((self.resolve_named(&authority, connection, access)?, authority)),
            None => {
                let authority = connection.endpoints().and_then(Endpoints::authority).ok_or(HOST)?;
                let resolved = self.resolver.resolve_unnamed().map_err(|refusal| match refusal {
                    Refusal::NoHost => HOST,
                    refusal => Problem::from_refusal(&refusal),
                })?;
                Ok((resolved, authority))
            }
        }
    }

    fn resolve_named(
        &self,
        authority: &Authority,
        connection: &Activity,
        access: Option<&mut AccessLine>,
    ) -> Result<ResolvedSite<H>, Problem> {
        let Some(host) = host::normal(authority) else { return Err(HOST) };
        if let Some(line) = access {
            line.record().host = Some(host.as_ref().to_owned());
        }
        if connection.tls().is_some_and(|session| !session.permits(&host)) {
            return Err(MISDIRECTED);
        }
        self.resolver.resolve(&host).map_err(|refusal| Problem::from_refusal(&refusal))
    }
}
