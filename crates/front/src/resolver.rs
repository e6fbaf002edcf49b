//! The interface that maps a host name to the app that serves it. One implementation serves a single app, another one
//! the apps of thousands of tenants.

use std::pin::Pin;

use arc_swap::ArcSwap;
use isomer_telemetry::metrics::Metrics;
use isomer_transport::Permit;

use crate::handler::Handler;
use crate::refusal::Refusal;
use crate::site::{Site, SiteInUse};

/// Finds the app that serves a request, and admits the request. Must not block, because the front door calls it on the
/// executor's threads, for every request that passes the first checks.
pub trait SiteResolver<H: Handler>: Send + Sync + 'static {
    /// Returns the app that serves `host`. `host` is in lower case and has no port. An IP address is written as in a
    /// URL.
    ///
    /// # Errors
    /// If no app serves `host`, or if the app accepts no further request.
    fn resolve(&self, host: &str) -> Result<ResolvedSite<H>, Refusal>;

    /// Returns the app that serves requests without a host: the app for all host names that no other app has, or the
    /// only app.
    ///
    /// # Errors
    /// The errors of [`SiteResolver::resolve`]. The default implementation always returns [`Refusal::NoHost`].
    fn resolve_unnamed(&self) -> Result<ResolvedSite<H>, Refusal> {
        Err(Refusal::NoHost)
    }

    /// Returns the registry for the front door's metrics. By default, no metrics are recorded.
    fn metrics(&self) -> Option<&Metrics> {
        None
    }
}

/// A resolver that returns the same site for every host name.
impl<H: Handler> SiteResolver<H> for ArcSwap<Site<H>> {
    fn resolve(&self, _: &str) -> Result<ResolvedSite<H>, Refusal> {
        Ok(ResolvedSite { permit: None, site: SiteLookup::Ready(self.load().begin_request()) })
    }

    fn resolve_unnamed(&self) -> Result<ResolvedSite<H>, Refusal> {
        self.resolve("")
    }
}

/// The app for an admitted request.
pub struct ResolvedSite<H: Handler> {
    /// The permit of the tenant for this request, held until the response has been sent. `None` if the tenant's
    /// requests are not counted.
    pub permit: Option<Permit>,
    /// The site that serves the request.
    pub site: SiteLookup<H>,
}

/// A future that loads an app from disk.
pub type SiteLoad<H> = Pin<Box<dyn Future<Output = Result<SiteInUse<H>, Refusal>> + Send>>;

/// A site that is in memory, or a future that loads it.
pub enum SiteLookup<H: Handler> {
    /// The app is in memory.
    Ready(SiteInUse<H>),
    /// The app must be loaded from disk. The request waits at most
    /// [`Limits::load_timeout`](crate::Limits::load_timeout).
    Loading(SiteLoad<H>),
}
