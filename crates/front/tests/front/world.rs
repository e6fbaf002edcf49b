//! A front door that the test stops, before a door that answers as the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isomer_front::{
    CertificateFiles, Certificates, Connections, Door, Entered, Entering, Front, Limits, Proxies, Refusal, TlsSettings,
};
use isomer_observe::{Format, Log};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The longest that a test waits for anything. A test that is well never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The host whose requests wait until [`Held`] lets them go on; all other hosts are unknown.
pub(crate) const WAITS: &str = "waits.example";

/// The value of `future`, or a failed test if it takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {} s", PATIENCE.as_secs()),
    }
}

/// Asks again until `condition` holds, or the test fails after [`PATIENCE`].
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Refuses every host, those of [`WAITS`] when they are let go on.
struct Refuses {
    asked: Arc<AtomicU64>,
    waiting: Arc<watch::Sender<usize>>,
    go_on: watch::Receiver<bool>,
}

/// The requests for [`WAITS`].
#[derive(Clone)]
pub(crate) struct Held {
    waiting: Arc<watch::Sender<usize>>,
    go_on: Arc<watch::Sender<bool>>,
}

impl Held {
    /// Waits until so many requests have come.
    pub(crate) async fn come(&self, number: usize) {
        within("requests", self.waiting.subscribe().wait_for(|waiting| *waiting >= number)).await.unwrap();
    }

    /// Lets all of them go on.
    pub(crate) fn go_on(&self) {
        self.go_on.send_replace(true);
    }
}

impl Door for Refuses {
    fn enter(&self, host: &str) -> Result<Entered, Refusal> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if host != WAITS {
            return Err(Refusal::NoHost);
        }
        let (waiting, mut go_on) = (self.waiting.clone(), self.go_on.clone());
        let loading = async move {
            waiting.send_modify(|waiting| *waiting += 1);
            let _ = go_on.wait_for(|go_on| *go_on).await;
            Err(Refusal::Broken)
        };
        Ok(Entered { place: None, site: Entering::Loading(Box::pin(loading)) })
    }
}

/// Nobody reads it.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A certificate for `shop.example`, and clients that believe it.
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

    /// The settings of a client that speaks this protocol.
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

/// A socket that listens on a port that the system chose.
pub(crate) fn socket() -> TcpListener {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // As long a queue as the front door's own listeners have.
    socket2::SockRef::from(&socket).listen(1024).unwrap();
    socket
}

/// A front door that serves until it is told to stop.
pub(crate) struct TestFront {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    /// Requests that have reached the door.
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) held: Held,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<usize>,
}

/// How a front door is to be.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) proxies: Proxies,
    pub(crate) tls: Option<Arc<Certificates>>,
    /// Does somebody else hold the listener, too?
    pub(crate) shared: bool,
    pub(crate) grace: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        // No connection is closed because a busy machine keeps its client from sending.
        let limits = Limits { idle_grace: PATIENCE, ..Limits::default() };
        Self { limits, proxies: Proxies::default(), tls: None, shared: false, grace: PATIENCE }
    }
}

impl Setup {
    /// Serves on a socket of its own.
    pub(crate) fn start(self) -> TestFront {
        self.start_on(socket())
    }

    pub(crate) fn start_on(self, socket: TcpListener) -> TestFront {
        let (stop, stopped) = oneshot::channel();
        let grace = self.grace;
        let (front, asked, held) = self.open(socket);
        let (address, connections) = (front.address(), front.connections());
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(front.serve(stopped, grace));
        TestFront { address, connections, asked, held, stop, serving }
    }

    /// As one that is told to stop before it takes the first connection. Gives what says how many connections were cut off in the end.
    pub(crate) fn drain(self, socket: TcpListener) -> JoinHandle<usize> {
        let grace = self.grace;
        let (front, ..) = self.open(socket);
        tokio::spawn(front.serve(std::future::ready(()), grace))
    }

    fn open(self, socket: TcpListener) -> (Front, Arc<AtomicU64>, Held) {
        let (waiting, (go_on, may_go_on)) = (Arc::new(watch::Sender::new(0)), watch::channel(false));
        let go_on = Arc::new(go_on);
        let asked = Arc::new(AtomicU64::new(0));
        let door = Arc::new(Refuses { asked: asked.clone(), waiting: waiting.clone(), go_on: may_go_on });
        let log = Log::start(Nowhere, Format::Json, false).unwrap();
        let front = Front::new(self.limits, door, log).behind(self.proxies);
        let front = match self.shared {
            true => front.and_on_shared(socket, self.tls),
            false => front.and_on(socket, self.tls),
        };
        (front.unwrap(), asked, Held { waiting, go_on })
    }
}

impl TestFront {
    /// Tells it to stop, and gives what says how many connections were cut off in the end.
    pub(crate) fn stop(self) -> JoinHandle<usize> {
        drop(self.stop);
        self.serving
    }
}
