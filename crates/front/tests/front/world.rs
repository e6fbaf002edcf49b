//! A front door that a test can stop, and a resolver whose response the test controls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use isomer_front::{
    BodyFailure, CertificateFiles, Certificates, Connections, FailureKind, Front, Handler, HandlerBody, HandlerFailure,
    HandlerRequest, Limits, Proxies, Refusal, ResolvedSite, SiteLookup, SiteResolver, TlsSettings,
};
use isomer_observe::{Format, Log};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The maximum time that a test waits. A test that passes never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The host whose requests wait until the test releases [`HeldRequests`]. All other hosts are unknown.
pub(crate) const WAITS: &str = "waits.example";

/// Returns the value of `future`. The test fails if `future` takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {} s", PATIENCE.as_secs()),
    }
}

/// Waits until `condition` holds. The test fails if this takes longer than [`PATIENCE`]. Checks repeatedly, because a
/// front door announces no change of its counts, and only the kernel knows whether a port is closed.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A resolver that refuses every host name. For the host name [`WAITS`], it first waits until the test releases the
/// waiting requests.
struct RefusingResolver {
    resolved: Arc<AtomicU64>,
    waiting: Arc<watch::Sender<usize>>,
    go_on: watch::Receiver<bool>,
}

/// The requests for the host name [`WAITS`], which wait until the test releases them.
#[derive(Clone)]
pub(crate) struct HeldRequests {
    waiting: Arc<watch::Sender<usize>>,
    go_on: Arc<watch::Sender<bool>>,
}

impl HeldRequests {
    /// Waits until `number` requests have arrived.
    pub(crate) async fn arrived(&self, number: usize) {
        within("requests", self.waiting.subscribe().wait_for(|waiting| *waiting >= number)).await.unwrap();
    }

    /// Releases all held requests.
    pub(crate) fn release(&self) {
        self.go_on.send_replace(true);
    }
}

impl SiteResolver<NoHandler> for RefusingResolver {
    fn resolve(&self, host: &str) -> Result<ResolvedSite<NoHandler>, Refusal> {
        self.resolved.fetch_add(1, Ordering::Relaxed);
        if host != WAITS {
            return Err(Refusal::NoHost);
        }
        let (waiting, mut go_on) = (self.waiting.clone(), self.go_on.clone());
        let loading = async move {
            waiting.send_modify(|waiting| *waiting += 1);
            let _ = go_on.wait_for(|go_on| *go_on).await;
            Err(Refusal::Broken)
        };
        Ok(ResolvedSite { permit: None, site: SiteLookup::Loading(Box::pin(loading)) })
    }
}

/// A handler that never runs, because no host has an app.
#[derive(Clone)]
pub(crate) enum NoHandler {}

/// A type without values, which [`NoHandler`] uses as its error type and as its body type.
#[derive(Debug)]
pub(crate) enum Never {}

impl Handler for NoHandler {
    type Body = Never;
    type Failure = Never;
    type Memory = ();

    async fn handle(&self, _: HandlerRequest) -> Result<Response<Never>, Never> {
        match *self {}
    }

    fn tenant(&self) -> &Arc<str> {
        match *self {}
    }

    fn charge_memory(&self, _: usize) -> Option<()> {
        match *self {}
    }

    fn charge_cpu(&self, _: Duration) {
        match *self {}
    }
}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl HandlerFailure for Never {
    fn kind(&self) -> FailureKind {
        match *self {}
    }

    fn backtrace(&self) -> &[String] {
        match *self {}
    }
}

impl Body for Never {
    type Data = Bytes;
    type Error = Never;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Never>>> {
        match *self {}
    }
}

impl HandlerBody for Never {
    fn is_complete(&self) -> bool {
        match *self {}
    }

    fn failure(&self) -> BodyFailure {
        match *self {}
    }
}

/// A writer that discards all bytes.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A certificate for `shop.example`, and client settings that trust it.
pub(crate) struct Tls {
    pub(crate) certificates: Arc<Certificates>,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

impl Tls {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["shop.example".to_owned(), WAITS.to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: folder.path().join("shop.crt"), key: folder.path().join("shop.key") };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = TlsSettings { files: vec![files], ..TlsSettings::default() };
        let (certificates, _) = Certificates::load(settings).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        Self { certificates, roots, _folder: folder }
    }

    /// Returns the settings of a client that negotiates the protocol `alpn`.
    pub(crate) fn client(&self, alpn: &str) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// Returns a socket that listens on a port that the system chose.
pub(crate) fn socket() -> TcpListener {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // The accept queue is as long as the accept queues of the front door's own listeners.
    socket2::SockRef::from(&socket).listen(1024).unwrap();
    socket
}

/// A front door that serves until it is stopped.
pub(crate) struct TestFront {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    /// The number of requests that have reached the resolver.
    pub(crate) resolved: Arc<AtomicU64>,
    pub(crate) held: HeldRequests,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<usize>,
}

/// The settings of a front door.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) proxies: Proxies,
    pub(crate) tls: Option<Arc<Certificates>>,
    /// Whether another process also holds the listener.
    pub(crate) shared: bool,
    /// The connections of another front door, with which the connections are counted.
    pub(crate) counted_with: Option<Connections>,
    pub(crate) grace: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        // The long grace period prevents connections from being closed because a busy machine delays their clients.
        let limits = Limits { idle_grace: PATIENCE, ..Limits::default() };
        Self { limits, proxies: Proxies::default(), tls: None, shared: false, counted_with: None, grace: PATIENCE }
    }
}

impl Setup {
    /// Starts a front door on a new socket.
    pub(crate) fn start(self) -> TestFront {
        self.start_on(socket())
    }

    pub(crate) fn start_on(self, socket: TcpListener) -> TestFront {
        let (stop, stopped) = oneshot::channel();
        let grace = self.grace;
        let (front, resolved, held) = self.open(socket);
        let (address, connections) = (front.address(), front.connections());
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(front.serve(stopped, grace));
        TestFront { address, connections, resolved, held, stop, serving }
    }

    /// Starts a front door on `socket`, and stops the front door before it accepts the first connection. Returns the
    /// number of connections that were cut off.
    pub(crate) fn drain(self, socket: TcpListener) -> JoinHandle<usize> {
        let grace = self.grace;
        let (front, ..) = self.open(socket);
        tokio::spawn(front.serve(std::future::ready(()), grace))
    }

    fn open(self, socket: TcpListener) -> (Front<NoHandler>, Arc<AtomicU64>, HeldRequests) {
        let (waiting, (go_on, may_go_on)) = (Arc::new(watch::Sender::new(0)), watch::channel(false));
        let go_on = Arc::new(go_on);
        let resolved = Arc::new(AtomicU64::new(0));
        let resolver =
            Arc::new(RefusingResolver { resolved: resolved.clone(), waiting: waiting.clone(), go_on: may_go_on });
        let log = Log::start(Nowhere, Format::Json, false).unwrap();
        let front = Front::new(self.limits, resolver, log).with_proxies(self.proxies);
        let front = match &self.counted_with {
            Some(connections) => front.with_connections(connections),
            None => front,
        };
        let front = match self.shared {
            true => front.with_shared_listener(socket, self.tls),
            false => front.with_listener(socket, self.tls),
        };
        (front.unwrap(), resolved, HeldRequests { waiting, go_on })
    }
}

impl TestFront {
    /// Stops the front door. Returns the number of connections that were cut off.
    pub(crate) fn stop(self) -> JoinHandle<usize> {
        drop(self.stop);
        self.serving
    }
}
