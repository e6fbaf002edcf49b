//! Who answers for a host name. What is behind it is for the implementor to know: one app, or thousands of tenants.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use isomer_transport::Permit;

use crate::site::Site;

/// Decides who serves a request. Asked for every request, before anything is set aside for it: must not block.
pub trait Door: Send + Sync + 'static {
    /// The app that answers for `host`: lower case, without port; an IP literal as in a URL.
    ///
    /// # Errors
    /// When nobody does, or who does takes no more.
    fn enter(&self, host: &str) -> Result<Entered, Refusal>;

    /// The app that answers a request which names no host: the only one, or the one for all other hosts.
    ///
    /// # Errors
    /// As [`Door::enter`]; by default no app does.
    fn enter_unnamed(&self) -> Result<Entered, Refusal> {
        Err(Refusal::NoHost)
    }
}

/// One site for every host name.
impl Door for ArcSwap<Site> {
    fn enter(&self, _: &str) -> Result<Entered, Refusal> {
        Ok(Entered { place: None, site: Entering::Ready(self.load_full()) })
    }

    fn enter_unnamed(&self) -> Result<Entered, Refusal> {
        self.enter("")
    }
}

/// A request that was let in.
pub struct Entered {
    /// Counts the request among those of its tenant until the response has been sent; none where they are not counted.
    pub place: Option<Permit>,
    /// What serves it.
    pub site: Entering,
}

/// A site, now or soon.
pub enum Entering {
    /// It is there.
    Ready(Arc<Site>),
    /// It has to come from disk. The request waits for it no longer than to its deadline.
    Loading(Pin<Box<dyn Future<Output = Result<Arc<Site>, Refusal>> + Send>>),
}

/// Why a request is not served. Each has its own problem for the client; none tells one tenant about another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has the host name: 404 (misdirected requests are not told apart from unknown ones).
    #[error("no app is served under this host name")]
    NoHost,
    /// The app is being built for the first time: 503 with `retry-after: 1`.
    #[error("the app is still being built")]
    NotBuilt,
    /// The app was stopped: 503.
    #[error("the app is stopped")]
    Stopped,
    /// The tenant's requests come too fast: 429 with `retry-after`.
    #[error("the tenant's requests come faster than its quota allows")]
    Rate {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// The tenant has as many requests in flight as it may: 429.
    #[error("the tenant has as many requests in flight as its quota allows")]
    Concurrency,
    /// The tenant's guests have used the processor time that they may: 429 with `retry-after`.
    #[error("the tenant has used the processor time that its quota allows")]
    Cpu {
        /// When there is some again.
        retry_after: Duration,
    },
    /// Too many apps are being loaded: 503 with `retry-after: 1`.
    #[error("too many apps are being loaded")]
    Loading,
    /// The app cannot be loaded: 500. The reason is in the node's log.
    #[error("the app cannot be started")]
    Broken,
}
