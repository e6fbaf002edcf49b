//! A node in the test's process: an app of a manifest and the test guests, on a port that the system chose.
//!
//! In the manifests of the tests `wasm = "NAME"` names a guest. Data is in a temporary folder, which is removed with
//! the node; compiled code is kept between runs. The guests are payload: any guest toolchain will do. Nothing here
//! waits for a fixed time: tests wait for events, and [`within`] ends a wait that takes too long.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod front;
pub(crate) mod log;
pub(crate) mod raw;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isomer_apps::tenancy::{StandbyRevision, TenancyError};
use isomer_apps::{AppFront, AppSite};
use isomer_apps::{NewPackage, Package, PackageOptions, Peers, RevisionError, SingleApp, TenancyOptions};
use isomer_capabilities::DataDir;
use isomer_diagnostics::{SourceFile, chain};
use isomer_front::Limits;
use isomer_manifest::{App, ComponentSource};
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::Engine;
use isomer_seam::Components;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use client::{Connection, TestResponse};
use log::MemoryLog;

/// The maximum time that a test waits for anything. It is long because the machine may be busy. A test that passes
/// never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the value of `future`; the test fails if it takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {} s", PATIENCE.as_secs()),
    }
}

/// Repeats `condition` until it returns something; the test fails after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// An engine that checks its pool's counters. When it is dropped, the test fails if the pool was ever full while the
/// runtime counted it as not full.
#[allow(dead_code, reason = "not every test brings its own engine")]
pub(crate) struct Counted(pub(crate) Engine);

impl Drop for Counted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.pool_miscounts(), 0, "the slots of the engine's pool were miscounted");
        }
    }
}

/// How a revision is made and started.
struct Options {
    making: PackageOptions,
    running: TenancyOptions,
    /// Components that are not guests, by their names in manifests.
    written: BTreeMap<String, Vec<u8>>,
}

/// The settings of a node.
pub(crate) struct Setup {
    manifest: String,
    limits: Limits,
    grace: Duration,
    options: Options,
    folder: TempDir,
}

/// A node that serves `manifest`, with defaults for the rest.
pub(crate) async fn start(manifest: &str) -> TestNode {
    Setup::new(manifest).start().await
}

/// The manifest of an app with one component: the guest `name`, on every path, with these further lines.
pub(crate) fn one(guest: &str, lines: &str) -> String {
    format!("[components.{guest}]\nwasm = \"{guest}\"\nroutes = [\"/...\"]\n{lines}\n")
}

impl Setup {
    /// `manifest` has the components; `[app]` is added.
    pub(crate) fn new(manifest: &str) -> Self {
        Self {
            manifest: format!("[app]\nname = \"test\"\nversion = \"0.1.0\"\n\n{manifest}"),
            limits: Limits::default(),
            grace: PATIENCE,
            // The number of instances is as low as most tests allow, because address space is reserved for each
            // instance.
            options: Options {
                making: PackageOptions::default(),
                running: TenancyOptions { instances_max: Some(16), ..TenancyOptions::unbounded() },
                written: BTreeMap::new(),
            },
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// Changes the front door's limits.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Changes how the revision is made.
    pub(crate) fn making(mut self, change: impl FnOnce(&mut PackageOptions)) -> Self {
        change(&mut self.options.making);
        self
    }

    /// Changes how the revision is started.
    pub(crate) fn options(mut self, change: impl FnOnce(&mut TenancyOptions)) -> Self {
        change(&mut self.options.running);
        self
    }

    /// Adds a component that is not a guest, which manifests name with `wasm = "NAME"`.
    #[allow(dead_code, reason = "not every test binary writes components")]
    pub(crate) fn component(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.options.written.insert(name.to_owned(), bytes);
        self
    }

    /// Sets how long the node waits for requests in flight when it stops.
    pub(crate) fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Returns the app's folder, against which the manifest's paths are resolved.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the node, or returns why its revision cannot be made.
    pub(crate) async fn try_start(self) -> Result<TestNode, RevisionError> {
        let memory = MemoryLog::default();
        let log = Log::start(memory.clone(), Format::Json, true).expect("the log starts");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let sole = sole(&self.options, &log);
        let front =
            AppFront::listen(listen, self.limits, sole.resolver(), log.clone()).await.expect("port 0 is always free");
        let data = DataDir::open(&self.folder.path().join(".isomer")).expect("a data directory of its own");
        let started = revision(&self.manifest, &self.options, &sole, self.folder.path(), &data).await?;
        sole.take_over(started);
        let address = front.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(front.serve(stopped, self.grace));
        let stop = Some(stop);
        let Self { options, folder, .. } = self;
        Ok(TestNode { address, log, memory, sole, options, data, folder, stop, serving })
    }

    /// The site that the node would serve, without a node.
    pub(crate) async fn site(self) -> (TempDir, Arc<AppSite>) {
        let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
        let data = DataDir::open(&self.folder.path().join(".isomer")).expect("a data directory of its own");
        let sole = sole(&self.options, &log);
        let started = revision(&self.manifest, &self.options, &sole, self.folder.path(), &data).await;
        let started = started.unwrap_or_else(|error| panic!("the revision is made: {}", chain(&error)));
        (self.folder, started.site().clone())
    }

    /// Starts the node.
    pub(crate) async fn start(self) -> TestNode {
        match self.try_start().await {
            Ok(node) => node,
            Err(RevisionError::Plan(findings)) => panic!("the plan refuses the app: {findings:?}"),
            Err(error) => panic!("the revision is made: {}", chain(&error)),
        }
    }
}

fn sole(options: &Options, log: &Log) -> SingleApp {
    let cache = CodeCache::open(&code_folder()).expect("a folder for compiled code");
    SingleApp::new(cache, log.clone(), options.running.clone()).expect("there is address space")
}

/// Makes a package of `manifest`, as a deployment does, and starts it from its bytes.
async fn revision(
    manifest: &str,
    options: &Options,
    sole: &SingleApp,
    folder: &Path,
    data: &DataDir,
) -> Result<StandbyRevision, RevisionError> {
    let app = parse(manifest);
    let NewPackage { package, code, .. } =
        sole.make(&app, &components_with(&app, &options.written), &options.making, &|_| {})?;
    let package = Package::from_bytes(&package.to_bytes()).expect("a package can be kept");
    let started = sole.start(package, folder, data, Peers::new(), &|_| {}).await;
    drop(code);
    started.map_err(|error| match error {
        TenancyError::Revision(error) => error,
        TenancyError::Capabilities(error) => error.into(),
        error => panic!("the tenant is there: {error}"),
    })
}

pub(crate) fn parse(manifest: &str) -> App {
    let source = SourceFile::new("isomer.toml", manifest);
    match isomer_manifest::parse(&source) {
        Ok(parsed) => parsed.app,
        Err(findings) => panic!("the test's manifest is right: {findings:?}"),
    }
}

#[allow(dead_code, reason = "not every test binary uses only guests")]
pub(crate) fn components(app: &App) -> Components {
    components_with(app, &BTreeMap::new())
}

/// Returns the components of an app: components in `written`, and guests.
fn components_with(app: &App, written: &BTreeMap<String, Vec<u8>>) -> Components {
    let component = |component: &isomer_manifest::Component| match &component.source.value {
        ComponentSource::Wasm(guest) => {
            let name = guest.to_str().expect("guests have plain names");
            written.get(name).cloned().unwrap_or_else(|| isomer_test_guests::bytes(name)).into()
        }
        other => panic!("the tests' components are guests, not {other:?}"),
    };
    app.components.iter().map(|(name, it)| (name.clone(), component(it))).collect()
}

/// Returns the folder of compiled code. It is kept between runs, so that only changed components are compiled.
pub(crate) fn code_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("code")
}

/// A running node.
pub(crate) struct TestNode {
    /// The address of the node.
    pub(crate) address: SocketAddr,
    log: Log,
    memory: MemoryLog,
    sole: SingleApp,
    options: Options,
    data: DataDir,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<usize>,
}

impl TestNode {
    /// The app's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection for HTTP/1.1.
    pub(crate) async fn connect(&self) -> Connection {
        within("connect", Connection::http1(self.address)).await
    }

    /// A new connection for HTTP/2, with prior knowledge.
    pub(crate) async fn connect_http2(&self) -> Connection {
        within("connect", Connection::http2(self.address)).await
    }

    /// A new connection whose bytes the test writes.
    pub(crate) async fn connect_raw(&self) -> raw::RawConnection {
        within("connect", raw::RawConnection::open(self.address)).await
    }

    /// Sends a GET over a new connection.
    pub(crate) async fn get(&self, target: &str) -> TestResponse {
        self.connect().await.get(target).await
    }

    /// Sends a POST over a new connection.
    pub(crate) async fn post(&self, target: &str, contents: &str) -> TestResponse {
        self.connect().await.post(target, contents).await
    }

    /// Puts a revision of `manifest` into service.
    pub(crate) async fn take_over(&self, manifest: &str) {
        let manifest = format!("[app]\nname = \"test\"\nversion = \"0.2.0\"\n\n{manifest}");
        let made = revision(&manifest, &self.options, &self.sole, self.folder.path(), &self.data).await;
        self.sole.take_over(made.unwrap_or_else(|error| panic!("the revision is made: {}", chain(&error))));
    }

    /// All events of the log so far.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.log.flush();
        self.memory.events()
    }

    /// The events since `position`, which is set to their end.
    pub(crate) fn events_since(&self, position: &mut usize) -> Vec<serde_json::Value> {
        self.log.flush();
        self.memory.events_since(position)
    }

    /// Writes the warnings of this process to this node's log. Only the first node that calls this gets them.
    pub(crate) fn hear_warnings(&self) {
        isomer_observe::listen_to_events(self.log.clone());
    }

    /// The lines that `component` has printed to `stream` so far.
    pub(crate) fn output(&self, component: &str, stream: &str) -> Vec<String> {
        let of = |event: &serde_json::Value| {
            let it = event["event"] == "output" && event["component"] == component && event["stream"] == stream;
            it.then(|| event["line"].as_str().expect("a line is text").to_owned())
        };
        self.events().iter().filter_map(of).collect()
    }

    /// Waits for an event of this kind (`access`, `failed`, …) for which `wanted` returns true.
    pub(crate) async fn event(&self, kind: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let mut position = 0;
        until(&format!("an event `{kind}` in the log"), async || {
            self.events_since(&mut position).into_iter().find(|event| event["event"] == kind && wanted(event))
        })
        .await
    }

    /// Stops, and starts again with `manifest` and the same folder and data.
    pub(crate) async fn restart(mut self, manifest: &str) -> TestNode {
        self.tell_to_stop();
        assert_eq!(within("stop", &mut self.serving).await.expect("the node does not panic"), 0);
        let Self { sole, data, folder, options, .. } = self;
        let stores = sole.stores().clone();
        drop(sole);
        stores.closed(data.path()).await;
        drop(data);
        let setup = Setup::new(manifest);
        Setup { folder, options, ..setup }.start().await
    }

    /// Tells the node to stop. The node still serves the requests in flight.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the node and waits until it has stopped. Returns the number of connections that were aborted.
    pub(crate) async fn stop(mut self) -> usize {
        self.tell_to_stop();
        within("stop", &mut self.serving).await.expect("the node does not panic")
    }
}
