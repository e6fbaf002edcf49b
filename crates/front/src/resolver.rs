//! Which app serves a host name. What is behind it is for the implementor to know: one app, or thousands of tenants.

use std::pin::Pin;
use std::time::Duration;

use arc_swap::ArcSwap;
use isomer_transport::Permit;

use crate::handler::Handler;
use crate::site::{Site, SiteInUse};

/// Finds the app that serves a request, and admits the request. Called for every request, before anything is set aside for it: must not
/// block.
pub trait SiteResolver<H: Handler>: Send + Sync + 'static {
    /// Returns the app that serves `host`: in lower case, without a port; an IP address as in a URL.
    ///
    /// # Errors
    /// When no app serves it, or the app accepts no further request.
    fn resolve(&self, host: &str) -> Result<ResolvedSite<H>, Refusal>;

    /// Returns the app that serves a request which names no host: the only one, or the one for all other hosts.
    ///
    /// # Errors
    /// As [`SiteResolver::resolve`]; by default there is no such app.
    fn resolve_unnamed(&self) -> Result<ResolvedSite<H>, Refusal> {
        Err(Refusal::NoHost)
    }
}

/// Serves one site for every host name.
impl<H: Handler> SiteResolver<H> for ArcSwap<Site<H>> {
    fn resolve(&self, _: &str) -> Result<ResolvedSite<H>, Refusal> {
        Ok(ResolvedSite { permit: None, site: SiteLookup::Ready(self.load().begin_request()) })
    }

    fn resolve_unnamed(&self) -> Result<ResolvedSite<H>, Refusal> {
        self.resolve("")
    }
}

/// The app that serves a request that was admitted.
pub struct ResolvedSite<H: Handler> {
    /// Counts the request among those of its tenant until the response has been sent; `None` if they are not counted.
    pub permit: Option<Permit>,
    /// What serves the request.
    pub site: SiteLookup<H>,
}

/// Loads an app from disk.
pub type SiteLoad<H> = Pin<Box<dyn Future<Output = Result<SiteInUse<H>, Refusal>> + Send>>;

/// A site, or the wait for it.
pub enum SiteLookup<H: Handler> {
    /// The app is in memory.
    Ready(SiteInUse<H>),
    /// The app has to be loaded from disk. The request waits no longer than [`Limits::load_timeout`](crate::Limits::load_timeout).
    Loading(SiteLoad<H>),
}

/// Why a request is not admitted. Each reason has its own problem for the client; none tells one tenant about another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No app has the host name: 404 (misdirected requests are not told apart from unknown ones).
    #[error("no app is served under this host name")]
    NoHost,
    /// The app is being built for the first time: 503 with `retry-after: 1`.
    #[error("the app is still being built")]
    NotBuilt,
    /// The app was stopped: 503.
    #[error("the app is stopped")]
    Stopped,
    /// The rate of the tenant's requests is too high: 429 with `retry-after`.
    #[error("the tenant's requests come faster than its quota allows")]
    Rate {
        /// The time until the next request is admitted.
        retry_after: Duration,
    },
    /// The tenant has as many requests in flight as it may have: 429.
    #[error("the tenant has as many requests in flight as its quota allows")]
    Concurrency,
    /// The tenant's guests have used up their processor time: 429 with `retry-after`.
    #[error("the tenant has used the processor time that its quota allows")]
    Cpu {
        /// The time until some is available again.
        retry_after: Duration,
    },
    /// Too many apps are being loaded: 503 with `retry-after: 1`.
    #[error("too many apps are being loaded")]
    Loading,
    /// The app cannot be loaded: 500. The reason is in the node's log.
    #[error("the app cannot be started")]
    Broken,
}
