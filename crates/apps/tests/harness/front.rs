//! A front door without a node. The test provides the resolver of host names.

use std::net::SocketAddr;
use std::sync::Arc;

use isomer_apps::{AppFront, AppResolver, AppSite};
use isomer_front::Limits;
use isomer_observe::{Format, Log};
use tokio::sync::oneshot;

use super::client::Connection;
use super::log::MemoryLog;
use super::raw::RawConnection;
use super::{PATIENCE, Setup, within};

/// A front door that serves until it is dropped.
pub(crate) struct TestFront {
    /// The address of the front door.
    pub(crate) address: SocketAddr,
    /// The front door stops when this sender is dropped.
    _stop: oneshot::Sender<()>,
}

/// Starts a front door with the resolver `door`. `change` changes the front door's limits.
pub(crate) async fn front(door: Arc<AppResolver>, change: impl FnOnce(&mut Limits)) -> TestFront {
    let mut limits = Limits::default();
    change(&mut limits);
    let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let front = AppFront::listen(listen, limits, door, log).await.expect("port 0 is always free");
    TestFront::serve(front)
}

/// Creates the site that a node with `manifest` would serve. The caller must keep the returned folder while the site is
/// used.
pub(crate) async fn site(manifest: &str) -> (tempfile::TempDir, Arc<AppSite>) {
    Setup::new(manifest).site().await
}

impl TestFront {
    /// Starts to serve requests with `front`.
    pub(crate) fn serve(front: AppFront) -> Self {
        let address = front.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::spawn(front.serve(stopped, PATIENCE));
        Self { address, _stop: stop }
    }

    /// Opens a connection with HTTP/1.1.
    #[allow(dead_code, reason = "not every test uses HTTP/1.1")]
    pub(crate) async fn connect_http1(&self) -> Connection {
        within("connect", Connection::http1(self.address)).await
    }

    /// Opens a connection with HTTP/2.
    pub(crate) async fn connect_http2(&self) -> Connection {
        within("connect", Connection::http2(self.address)).await
    }

    /// Opens a connection whose bytes the test writes itself.
    pub(crate) async fn connect_raw(&self) -> RawConnection {
        within("connect", RawConnection::open(self.address)).await
    }
}
