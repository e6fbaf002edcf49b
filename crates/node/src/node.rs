//! The running process: a front door and the revision behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use isomer_front::{Front, FrontError, Limits, Site};
use isomer_observe::Log;

use crate::revision::Revision;

/// How a node listens.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The front door's address.
    pub listen: SocketAddr,
    /// What it takes on.
    pub limits: Limits,
    /// How long requests that run may go on when the node is told to stop.
    pub grace: Duration,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The front door does not open.
    #[error(transparent)]
    Front(#[from] FrontError),
}

/// A node that listens.
pub struct Node {
    front: Front,
    site: Arc<ArcSwap<Site>>,
    grace: Duration,
}

/// A node's revision, replaced while the node runs.
#[derive(Clone)]
pub struct Takeover(Arc<ArcSwap<Site>>);

impl Takeover {
    /// From now on, new requests go to `revision`; those in flight end with the one that they began with.
    pub fn take_over(&self, revision: &Revision) {
        self.0.store(revision.site().clone());
    }
}

impl Node {
    /// Opens the front door, behind which nothing is served yet.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn open(options: NodeOptions, log: Log) -> Result<Self, NodeError> {
        let site = Arc::new(ArcSwap::from_pointee(Site::new()));
        let front = Front::listen(options.listen, options.limits, site.clone(), log).await?;
        Ok(Self { front, site, grace: options.grace })
    }

    /// As [`Node::open`], on a socket that listens already (`isomer_front::bind`): `options.listen` is not looked at.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn open_on(listener: std::net::TcpListener, options: NodeOptions, log: Log) -> Result<Self, NodeError> {
        let site = Arc::new(ArcSwap::from_pointee(Site::new()));
        let address = options.listen;
        let front = Front::on(listener, options.limits, site.clone(), log)
            .map_err(|source| FrontError::Listen { address, source })?;
        Ok(Self { front, site, grace: options.grace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// The handle that replaces the revision.
    pub fn takeover(&self) -> Takeover {
        Takeover(self.site.clone())
    }

    /// Serves until `stop` resolves. Returns how many connections had to be cut off.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> usize {
        self.front.serve(stop, self.grace).await
    }
}
