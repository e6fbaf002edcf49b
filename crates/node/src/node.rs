//! The running process: a front door with a tenancy behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use isomer_front::{Door, Front, FrontError, Limits};
use isomer_observe::Log;

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
    grace: Duration,
}

impl Node {
    /// Opens the front door: `door` says who serves what comes.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn open(options: NodeOptions, door: Arc<dyn Door>, log: Log) -> Result<Self, NodeError> {
        let front = Front::listen(options.listen, options.limits, door, log).await?;
        Ok(Self { front, grace: options.grace })
    }

    /// As [`Node::open`], on a socket that listens already (`isomer_front::bind`): `options.listen` is not looked at.
    ///
    /// # Errors
    /// When it is no socket that listens.
    pub fn open_on(
        listener: std::net::TcpListener,
        options: NodeOptions,
        door: Arc<dyn Door>,
        log: Log,
    ) -> Result<Self, NodeError> {
        let address = options.listen;
        let front =
            Front::on(listener, options.limits, door, log).map_err(|source| FrontError::Listen { address, source })?;
        Ok(Self { front, grace: options.grace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// Serves until `stop` resolves. Returns how many connections had to be cut off.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> usize {
        self.front.serve(stop, self.grace).await
    }
}
