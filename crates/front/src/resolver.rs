//! Which app serves a host name. The implementation decides whether there is one app, or apps of thousands of tenants.

use std::pin::Pin;

use arc_swap::ArcSwap;
use isomer_transport::Permit;

use crate::handler::Handler;
use crate::refusal::Refusal;
use crate::site::{Site, SiteInUse};

/// Finds the app that serves a request, and admits the request. Called for every request before anything is allocated
/// for it, so it must not block.
pub trait SiteResolver<H: Handler>: Send + Sync + 'static {
    /// Returns the app that serves `host`. `host` is in lower case, without a port; an IP address is written as in a
    /// URL.
    ///
    /// # Errors
    /// When no app serves the host, or the app accepts no further request.
    fn resolve(&self, host: &str) -> Result<ResolvedSite<H>, Refusal>;

    /// Returns the app that serves a request without a host: the only app, or the app for all host names that no other
    /// app has.
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
    /// The site that serves the request.
    pub site: SiteLookup<H>,
}

/// A future that loads an app from disk.
pub type SiteLoad<H> = Pin<Box<dyn Future<Output = Result<SiteInUse<H>, Refusal>> + Send>>;

/// A site, or the future that loads it.
pub enum SiteLookup<H: Handler> {
    /// The app is in memory.
    Ready(SiteInUse<H>),
    /// The app has to be loaded from disk. The request waits no longer than [`Limits::load_timeout`](crate::Limits::load_timeout).
    Loading(SiteLoad<H>),
}
