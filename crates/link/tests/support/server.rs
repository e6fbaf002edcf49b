//! A server that a test can start, stop and kill.

use std::sync::Arc;
use std::time::Duration;

use isomer_link::{Address, Server, ServerLimits, Tls};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::callee::{Script, Scripted};

/// A running server. Dropping it kills the server.
pub struct TestServer {
    pub address: Address,
    pub script: Arc<Script>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<usize>,
}

impl TestServer {
    pub async fn at(address: &Address) -> Self {
        Self::with(address, None, ServerLimits::default(), Arc::default()).await
    }

    pub async fn with(address: &Address, tls: Option<&Tls>, limits: ServerLimits, script: Arc<Script>) -> Self {
        let callee = Arc::new(Scripted(script.clone()));
        let server = Server::listen(address, tls, limits, callee).await.unwrap();
        let address = server.address().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server.serve(stopped, Duration::from_secs(5)));
        Self { address, script, stop: Some(stop), task }
    }

    /// Starts a server on a loopback port.
    pub async fn tcp() -> Self {
        Self::at(&"127.0.0.1:0".parse().unwrap()).await
    }

    /// Ends the server as if its process were killed: its connections are closed immediately.
    pub async fn kill(mut self) -> Address {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address.clone()
    }

    /// Stops the server.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server. Returns the number of connections that were cut off.
    pub async fn stopped(mut self) -> usize {
        self.stop();
        (&mut self.task).await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
