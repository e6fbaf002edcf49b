//! A running admin API with a fake node, and functions that send requests to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isomer_admin::{
    AdminAddress, AdminLimits, AdminServer, AdminService, AuditLog, Client, NodeAddress, TOKEN_FILE, Token,
};
use isomer_api::{TokenRequest, TokenRole};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::Fake;

/// The maximum time that a test waits. Only a test that hangs waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Served {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: AdminAddress,
    pub(crate) data: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// A response as a test sees it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Served {
    pub(crate) async fn tcp() -> Self {
        Self::with_limits(AdminLimits::default()).await
    }

    /// Starts an admin API with the given data directory.
    pub(crate) async fn over(data: TempDir) -> Self {
        Self::open(&"127.0.0.1:0".parse().unwrap(), data, AdminLimits::default()).await
    }

    pub(crate) async fn with_limits(limits: AdminLimits) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::open(&"127.0.0.1:0".parse().unwrap(), data, limits).await
    }

    pub(crate) async fn unix() -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = AdminAddress::Unix(data.path().join("admin.sock"));
        Self::open(&address, data, AdminLimits::default()).await
    }

    async fn open(address: &AdminAddress, data: TempDir, limits: AdminLimits) -> Self {
        let fake = Fake::new();
        let server = AdminServer::listen(address, false).await.unwrap();
        let address = server.address().clone();
        let service: AdminService = AdminService {
            admin: fake.clone(),
            token: Token::of_node(data.path()).unwrap(),
            audit: Some(AuditLog::open(data.path()).unwrap()),
            hosts: vec!["node.internal".to_owned()],
            limits,
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(service, async { drop(stopped.await) }));
        Self { fake, address, data, stop: Some(stop), serving: Some(serving) }
    }

    pub(crate) fn token_text(&self) -> String {
        std::fs::read_to_string(self.data.path().join(TOKEN_FILE)).unwrap().trim().to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(NodeAddress::from(&self.address), Token::of_node(self.data.path()).unwrap())
    }

    /// Returns a client that sends the given token.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        Client::new(NodeAddress::from(&self.address), Token::parse(token).unwrap())
    }

    /// Creates a token of a tenant in a request with the node's token, and returns the new token.
    pub(crate) async fn tenant_token(&self, tenant: &str, name: &str, role: TokenRole) -> String {
        let new = TokenRequest { name: name.parse().unwrap(), role, data: false, expires_in_s: None };
        self.client().create_token(&tenant.parse().unwrap(), &new).await.unwrap().token
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.data.path().join("admin.sock")
    }

    /// Stops the server, and waits until it has shut down.
    pub(crate) async fn stop(&mut self) {
        self.tell_to_stop();
        tokio::time::timeout(PATIENCE, self.serving.take().unwrap()).await.unwrap().unwrap();
    }

    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let AdminAddress::Tcp(address) = &self.address else { panic!("the admin API listens on a Unix socket") };
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request with the node's token.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answered {
        self.ask_with(&self.token_text(), method, path, body).await
    }

    /// Sends a request with the given token.
    pub(crate) async fn ask_with(&self, token: &str, method: &str, path: &str, body: &str) -> Answered {
        let more = format!(
            "host: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        self.send(method, path, &more, body).await
    }

    /// Sends a request with the given header lines over a new connection, which the server closes after the response.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answered {
        let mut stream = self.connect().await;
        let request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer_of(stream).await
    }

    /// Returns the parsed lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.data.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Reads a response until the server closes the connection.
pub(crate) async fn answer_of(mut stream: TcpStream) -> Answered {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    assert!(read.is_ok() || !bytes.is_empty(), "{read:?}");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answered { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
