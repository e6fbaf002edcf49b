//! A node for tests, with its front door on a port that the system chooses, and releases of the test guests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use isomer_admin::{Admin as _, Caller};
use isomer_api::{ApiProblem, DeployReport, Release, ReleasePart};
use isomer_apps::AppFront;
use isomer_apps::TenancyOptions;
use isomer_capabilities::DataDirError;
use isomer_disk::{FileStorage, Storage};
use isomer_front::Limits;
use isomer_ids::{AppName, Digest, TenantName};
use isomer_node::compiler::ChildLimits;
use isomer_node::{ChangeStep, SignaturePolicy};
use isomer_node::{Node, NodeError, NodeOptions};
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;
use isomer_state::StateError;
use isomer_telemetry::SamplingLimits;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::compile_child::compiler;

/// The maximum time that a test waits for a condition. Only a test that hangs waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The interval at which a test checks a condition.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A function that the node calls after each step of a change.
pub(crate) type Watch = Arc<dyn Fn(ChangeStep) + Send + Sync>;

/// A running node of a test.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<usize>>,
}

pub(crate) fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

pub(crate) fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

/// Returns the tenant and the app that tests deploy to by default.
pub(crate) fn shop() -> (TenantName, AppName) {
    (tenant("default"), app("shop"))
}

impl TestNode {
    pub(crate) async fn open(dir: &Path) -> Self {
        Self::watched(dir, None).await
    }

    /// Opens a node with the cached code of earlier tests, so that tests that are not about compiling run faster.
    pub(crate) async fn open_warm(dir: &Path) -> Self {
        warm(dir);
        Self::open(dir).await
    }

    pub(crate) async fn watched(dir: &Path, watch: Option<Watch>) -> Self {
        Self::over(dir, watch, FileStorage::new).await
    }

    /// Opens a node whose state is stored in the given storage.
    pub(crate) async fn over<S: Storage>(dir: &Path, watch: Option<Watch>, storage: impl Fn(&Path) -> S) -> Self {
        Self::reserving(dir, TenancyOptions::default().disk_reserve_bytes, watch, storage).await
    }

    /// Opens a node that keeps the given number of bytes of its disk free.
    pub(crate) async fn reserving<S: Storage>(
        dir: &Path,
        disk_reserve_bytes: u64,
        watch: Option<Watch>,
        storage: impl Fn(&Path) -> S,
    ) -> Self {
        let log = Log::start(std::io::sink(), Format::Json, false).unwrap();
        let options = || NodeOptions {
            data: dir.to_owned(),
            log: log.clone(),
            compiler: compiler(ChildLimits::default()),
            tenancy: TenancyOptions { instances_max: Some(16), disk_reserve_bytes, ..TenancyOptions::default() },
            sampling: Some(SamplingLimits::NODE),
            export: None,
            signatures: SignaturePolicy::default(),
            watch: watch.clone(),
        };
        let until = Instant::now() + PATIENCE;
        let node = loop {
            match Node::open_over(options(), &storage) {
                Ok(node) => break node,
                // The directory may still be locked for a moment, for two reasons. A child process of another test
                // inherits this process's locks until it executes its program. And a task that waits to read the state
                // holds the locks a little longer than the node itself does.
                Err(NodeError::Dir(DataDirError::InUse { .. }) | NodeError::State(StateError::InUse { .. }))
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // Each engine reserves a quarter of the address space of a process. This process also has the nodes of
                // other tests, including nodes that are shutting down, so it may have too little address space for a
                // moment.
                Err(NodeError::Engine { .. }) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let front = AppFront::listen(listen, Limits::default(), node.resolver(), log).await.unwrap();
        let address = front.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(front.serve(stopped.map(drop), Duration::from_secs(60)));
        Self { node, address, stop: Some(stop), serving: Some(serving) }
    }

    /// Uploads the parts of the release that the node lacks, and deploys the release.
    pub(crate) async fn deploy(&self, release: &TestRelease) -> Result<DeployReport, ApiProblem> {
        let (tenant, app) = shop();
        self.deploy_as(&tenant, &app, release).await
    }

    pub(crate) async fn deploy_as(
        &self,
        tenant: &TenantName,
        app: &AppName,
        release: &TestRelease,
    ) -> Result<DeployReport, ApiProblem> {
        let missing = self.node.clone().missing(Caller::Node, release.release.clone()).await?;
        for digest in missing.digests {
            self.upload(&digest, release.bytes[&digest].clone()).await?;
        }
        self.node.clone().deploy(Caller::Node, tenant.clone(), app.clone(), release.release.clone()).await
    }

    pub(crate) async fn upload(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), ApiProblem> {
        let pieces = bytes.chunks(64 << 10).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
        self.node.clone().put_blob(Caller::Node, digest.clone(), Box::pin(futures::stream::iter(pieces))).await
    }

    /// Sends a request to the app `shop` over a new connection.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        Client::connect(self.address).await.get("shop.example", path).await
    }

    /// Returns the argument `revision` of [`release`] with which the release in service was created. The app responds
    /// with this text.
    pub(crate) async fn serving(&self) -> String {
        let (status, body) = self.get("/").await;
        assert_eq!(status, 200, "{body}");
        revision_in(&body).to_owned()
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.take().unwrap().await.unwrap();
    }
}

/// Extracts the argument `revision` of [`release`] from a response of the app.
pub(crate) fn revision_in(body: &str) -> &str {
    let line = body.lines().find_map(|line| line.strip_prefix("env=REVISION="));
    line.unwrap_or_else(|| panic!("no revision in {body:?}"))
}

/// An HTTP client with one connection, which is kept alive.
pub(crate) struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn get(&mut self, host: &str, path: &str) -> (u16, String) {
        self.send(hyper::Request::get(path).header("host", host)).await
    }

    pub(crate) async fn send(&mut self, request: hyper::http::request::Builder) -> (u16, String) {
        let request = request.body(Empty::new()).unwrap();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// A release, with the bytes of all its parts.
#[derive(Clone)]
pub(crate) struct TestRelease {
    pub(crate) release: Release,
    pub(crate) bytes: BTreeMap<Digest, Vec<u8>>,
}

/// Returns a release of the app `shop` with the host name `shop.example`, whose responses contain `revision`.
pub(crate) fn release(revision: &str) -> TestRelease {
    custom("env-print", &format!("grants.config = {{ REVISION = \"{revision}\" }}\n"), "")
}

/// Returns a release with one guest for all paths. `lines` is added to the component's table in the manifest, and `end`
/// to the end of the manifest.
pub(crate) fn custom(guest: &str, lines: &str, end: &str) -> TestRelease {
    let manifest = format!(
        "[app]\nname = \"shop\"\nversion = \"1.0.0\"\n\n[components.it]\nwasm = \"it.wasm\"\nroutes = [\"/...\"]\n{lines}\n{end}\n"
    );
    let mut made = TestRelease {
        release: Release {
            manifest,
            shape: "monolith".to_owned(),
            components: BTreeMap::new(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            hosts: Some(vec!["shop.example".parse().unwrap()]),
            message: None,
            signatures: Vec::new(),
        },
        bytes: BTreeMap::new(),
    };
    let part = made.part(isomer_test_guests::bytes(guest));
    made.release.components.insert("it".to_owned(), part);
    made
}

impl TestRelease {
    /// Adds a health check with the given path to the manifest.
    pub(crate) fn healthy_at(mut self, path: &str) -> Self {
        let version = "version = \"1.0.0\"\n";
        self.release.manifest = self.release.manifest.replacen(version, &format!("{version}health = \"{path}\"\n"), 1);
        self
    }

    /// Adds a part with the given bytes, and returns the reference to it.
    pub(crate) fn part(&mut self, bytes: Vec<u8>) -> ReleasePart {
        let digest = Digest::from(<[u8; 32]>::from(Sha256::digest(&bytes)));
        let part = ReleasePart { digest: digest.clone(), bytes: bytes.len() as u64 };
        self.bytes.insert(digest, bytes);
        part
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        let part = self.part(text.as_bytes().to_vec());
        self.release.files.insert(path.parse().unwrap(), part);
        self
    }
}

/// Returns the folder in which compiled code is kept between test runs.
fn code_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept-code")
}

/// Copies the code that [`keep`] has stored, and the key with which it is sealed, to a node's data directory.
pub(crate) fn warm(dir: &Path) {
    let cache = dir.join("cache");
    std::fs::create_dir_all(&cache).unwrap();
    private(dir);
    private(&cache);
    CodeCache::open(&code_folder()).unwrap();
    std::fs::copy(code_folder().with_extension("key"), dir.join("cache.key")).unwrap();
    link_code(&code_folder(), &cache);
}

/// Stores the compiled code of the node with the data directory `dir`, for later calls of [`warm`]. [`warm`] must have
/// prepared `dir` before the node was opened, because the code is sealed with the key that [`warm`] copies to `dir`.
pub(crate) fn keep(dir: &Path) {
    link_code(&dir.join("cache"), &code_folder());
}

/// Makes all compiled code of one folder available in another folder, except code that is still being written.
fn link_code(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with('.') {
            link_or_copy(&path, &to.join(name));
        }
    }
}

/// Makes a file available under another path, unless there is a file already. Copies it if the paths are on different
/// file systems.
fn link_or_copy(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err_and(|error| error.kind() == std::io::ErrorKind::CrossesDevices) {
        let part = tempfile::NamedTempFile::new_in(to.parent().unwrap()).unwrap();
        std::fs::copy(from, part.path()).unwrap();
        let _ = part.persist_noclobber(to);
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Copies a folder with everything in it. Files of compiled code never change, so they are only linked.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    if from.ends_with("cache") {
        return link_code(from, to);
    }
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let goal = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &goal);
        } else {
            std::fs::copy(entry.path(), goal).unwrap();
        }
    }
}
