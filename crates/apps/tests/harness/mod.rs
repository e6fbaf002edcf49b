//! A node in the test's process. It serves an app that a manifest describes, on a port that the operating system
//! chooses.
//!
//! In the manifests of the tests, `wasm = "NAME"` names a test guest. The tests do not depend on the toolchain that the
//! guests were built with. Data is in a temporary folder, which is removed with the node; compiled code is kept between
//! runs. No function here waits for a fixed time. Tests wait for events, and [`within`] fails a test that waits too
//! long.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod front;
pub(crate) mod log;
pub(crate) mod raw;
pub(crate) mod tls;
pub(crate) mod traces;
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
use isomer_telemetry::Tracer;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use client::{Connection, TestResponse};
use log::MemoryLog;

/// The maximum time that a test waits for an event. It is long, because the machine may be busy; a test that passes
/// never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the output of `future`. The test fails if the future takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing happened within {} s", PATIENCE.as_secs()),
    }
}

/// Repeats `condition` until it returns a value, and returns the value. The test fails after [`PATIENCE`]. Used for
/// conditions of which the test is not notified: the status of a new request, a counter of the node, a number that only
/// the kernel knows.
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

/// An engine whose slot counters are checked. When it is dropped, the test fails if the pool was ever full although the
/// runtime's counters showed free slots.
#[allow(dead_code, reason = "not every test has its own engine")]
pub(crate) struct Counted(pub(crate) Engine);

impl Drop for Counted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.pool_miscounts(), 0, "the slots of the engine's pool were miscounted");
        }
    }
}

/// The options for making and starting revisions.
struct Options {
    making: PackageOptions,
    running: TenancyOptions,
    /// The components that are not test guests, by their names in manifests.
    written: BTreeMap<String, Vec<u8>>,
    tracer: Tracer,
    /// Whether sampled requests run probed code.
    is_probed: bool,
}

/// The settings of a node.
pub(crate) struct Setup {
    manifest: String,
    limits: Limits,
    grace: Duration,
    options: Options,
    folder: TempDir,
}

/// Starts a node that serves `manifest`, with default settings.
pub(crate) async fn start(manifest: &str) -> TestNode {
    Setup::new(manifest).start().await
}

/// Returns the manifest of an app with one component, the test guest `guest`, which receives the requests to every
/// path. `lines` is TOML text that is appended to the component's table.
pub(crate) fn one(guest: &str, lines: &str) -> String {
    format!("[components.{guest}]\nwasm = \"{guest}\"\nroutes = [\"/...\"]\n{lines}\n")
}

impl Setup {
    /// Creates the default settings of a node that serves `manifest`. The table `[app]` is added to `manifest`.
    pub(crate) fn new(manifest: &str) -> Self {
        Self {
            manifest: format!("[app]\nname = \"test\"\nversion = \"0.1.0\"\n\n{manifest}"),
            limits: Limits::default(),
            grace: PATIENCE,
            // The number of instances is only as high as most tests need, because address space is reserved for each
            // instance.
            options: Options {
                making: PackageOptions::default(),
                running: TenancyOptions { instances_max: Some(16), ..TenancyOptions::unbounded() },
                written: BTreeMap::new(),
                tracer: Tracer::default(),
                is_probed: false,
            },
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// Changes the front door's limits.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Changes the options for making the revision's package.
    pub(crate) fn making(mut self, change: impl FnOnce(&mut PackageOptions)) -> Self {
        change(&mut self.options.making);
        self
    }

    /// Changes the options for starting the revision.
    pub(crate) fn options(mut self, change: impl FnOnce(&mut TenancyOptions)) -> Self {
        change(&mut self.options.running);
        self
    }

    /// Adds a component that is not a test guest. Manifests refer to it by `wasm = "NAME"`.
    #[allow(dead_code, reason = "not every test binary writes components")]
    pub(crate) fn component(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.options.written.insert(name.to_owned(), bytes);
        self
    }

    /// Sets the tracer that records the requests.
    #[allow(dead_code, reason = "not every test binary records traces")]
    pub(crate) fn traced_by(mut self, tracer: Tracer) -> Self {
        self.options.tracer = tracer;
        self
    }

    /// Makes sampled requests run probed code. The node starts when the probed code of all groups is ready.
    #[allow(dead_code, reason = "not every test binary has probed apps")]
    pub(crate) fn probed(mut self) -> Self {
        self.options.is_probed = true;
        self
    }

    /// Sets the maximum time that the node waits for requests in flight when it stops.
    pub(crate) fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Returns the app's folder. Paths in the manifest are relative to it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the node.
    ///
    /// # Errors
    /// If the revision cannot be made or started.
    pub(crate) async fn try_start(self) -> Result<TestNode, RevisionError> {
        let memory = MemoryLog::default();
        let log = Log::start(memory.clone(), Format::Json, true).expect("the log starts");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let single_app = single_app(&self.options, &log);
        let front = AppFront::listen(listen, self.limits, single_app.resolver(), log.clone())
            .await
            .expect("port 0 is always free");
        let data = DataDir::open(&self.folder.path().join(".isomer")).expect("a data directory of its own");
        let started = revision(&self.manifest, &self.options, &single_app, self.folder.path(), &data).await?;
        single_app.take_over(started);
        let address = front.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(front.serve(stopped, self.grace));
        let stop = Some(stop);
        let Self { options, folder, .. } = self;
        Ok(TestNode { address, log, memory, single_app, options, data, folder, stop, serving })
    }

    /// Returns the site that the node would serve, without starting a node. The caller must keep the returned folder
    /// while the site is used.
    pub(crate) async fn site(self) -> (TempDir, Arc<AppSite>) {
        let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
        let data = DataDir::open(&self.folder.path().join(".isomer")).expect("a data directory of its own");
        let single_app = single_app(&self.options, &log);
        let started = revision(&self.manifest, &self.options, &single_app, self.folder.path(), &data).await;
        let started = started.unwrap_or_else(|error| panic!("cannot make the revision: {}", chain(&error)));
        (self.folder, started.site().clone())
    }

    /// Starts the node. The test fails if the revision cannot be made or started.
    pub(crate) async fn start(self) -> TestNode {
        match self.try_start().await {
            Ok(node) => node,
            Err(RevisionError::Plan(findings)) => panic!("the plan refuses the app: {findings:?}"),
            Err(error) => panic!("cannot make the revision: {}", chain(&error)),
        }
    }
}

fn single_app(options: &Options, log: &Log) -> SingleApp {
    let cache = CodeCache::open(&code_folder()).expect("a folder for compiled code");
    let single_app = SingleApp::new(cache, log.clone(), options.running.clone()).expect("enough address space");
    single_app.traced_by(options.tracer.clone())
}

/// Makes a package of `manifest`, converts it to bytes and back as a deployment does, and starts it. If its groups will be
/// probed, the package is not converted, and this function waits for the probed code.
async fn revision(
    manifest: &str,
    options: &Options,
    single_app: &SingleApp,
    folder: &Path,
    data: &DataDir,
) -> Result<StandbyRevision, RevisionError> {
    let app = parse(manifest);
    let NewPackage { mut package, plan, code, .. } =
        single_app.make(&app, &components_with(&app, &options.written), &options.making, &|_| {})?;
    if !options.is_probed {
        package = Package::from_bytes(&package.to_bytes()).expect("the package is valid");
    }
    let started = single_app.start(package, folder, data, Peers::new(), &|_| {}).await;
    drop(code);
    if let (Ok(started), true) = (&started, options.is_probed) {
        started.expect_sampled_requests();
        let fused = plan.groups.iter().filter(|group| !group.links.is_empty()).count();
        until("the probed code", async || (started.probed_groups() == fused).then_some(())).await;
    }
    started.map_err(|error| match error {
        TenancyError::Revision(error) => error,
        TenancyError::Capabilities(error) => error.into(),
        error => panic!("the tenant does not exist: {error}"),
    })
}

pub(crate) fn parse(manifest: &str) -> App {
    let source = SourceFile::new("isomer.toml", manifest);
    match isomer_manifest::parse(&source) {
        Ok(parsed) => parsed.app,
        Err(findings) => panic!("the test's manifest is invalid: {findings:?}"),
    }
}

#[allow(dead_code, reason = "not every test binary uses only guests")]
pub(crate) fn components(app: &App) -> Components {
    components_with(app, &BTreeMap::new())
}

/// Returns the components of an app. A component that is not in `written` is a test guest.
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

/// Returns the folder of compiled code. The folder is kept between runs, so that only changed components are compiled.
pub(crate) fn code_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("code")
}

/// A running node.
pub(crate) struct TestNode {
    /// The address of the node's front door.
    pub(crate) address: SocketAddr,
    log: Log,
    memory: MemoryLog,
    single_app: SingleApp,
    options: Options,
    data: DataDir,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<usize>,
}

impl TestNode {
    /// Returns the app's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Opens a connection with HTTP/1.1.
    pub(crate) async fn connect(&self) -> Connection {
        within("connect", Connection::http1(self.address)).await
    }

    /// Opens a connection with HTTP/2, with prior knowledge.
    pub(crate) async fn connect_http2(&self) -> Connection {
        within("connect", Connection::http2(self.address)).await
    }

    /// Opens a connection whose bytes the test writes itself.
    pub(crate) async fn connect_raw(&self) -> raw::RawConnection {
        within("connect", raw::RawConnection::open(self.address)).await
    }

    /// Sends a GET request over a new connection and reads the complete response.
    pub(crate) async fn get(&self, target: &str) -> TestResponse {
        self.connect().await.get(target).await
    }

    /// Sends a POST request over a new connection and reads the complete response.
    pub(crate) async fn post(&self, target: &str, contents: &str) -> TestResponse {
        self.connect().await.post(target, contents).await
    }

    /// Makes and starts a revision of `manifest`, which then takes over from the previous revision.
    pub(crate) async fn take_over(&self, manifest: &str) {
        let manifest = format!("[app]\nname = \"test\"\nversion = \"0.2.0\"\n\n{manifest}");
        let made = revision(&manifest, &self.options, &self.single_app, self.folder.path(), &self.data).await;
        self.single_app.take_over(made.unwrap_or_else(|error| panic!("cannot make the revision: {}", chain(&error))));
    }

    /// Returns all events in the node's log so far.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.log.flush();
        self.memory.events()
    }

    /// Returns the events in the node's log after `position`, and sets `position` to their end.
    #[allow(dead_code, reason = "not every test binary reads parts of the log")]
    pub(crate) fn events_since(&self, position: &mut usize) -> Vec<serde_json::Value> {
        self.log.flush();
        self.memory.events_since(position)
    }

    /// Makes this node's log receive the warnings of the whole process. Only the first call in a process has an effect.
    pub(crate) fn hear_warnings(&self) {
        isomer_observe::listen_to_events(self.log.clone());
    }

    /// Returns the lines that `component` has printed to `stream` so far.
    pub(crate) fn output(&self, component: &str, stream: &str) -> Vec<String> {
        let printed = |event: &serde_json::Value| {
            let is_wanted = event["event"] == "output" && event["component"] == component && event["stream"] == stream;
            is_wanted.then(|| event["line"].as_str().expect("a line is text").to_owned())
        };
        self.events().iter().filter_map(printed).collect()
    }

    /// Waits for an event of the given kind (`access`, `failed`, …) for which `wanted` returns true. Returns the event.
    pub(crate) async fn event(&self, kind: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        self.event_after(0, &format!("an event `{kind}` in the log"), |event| event["event"] == kind && wanted(event))
            .await
    }

    /// Waits for an event after `position` in the log for which `wanted` returns true. Returns the event.
    pub(crate) async fn event_after(
        &self,
        position: usize,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        self.memory.event(what, position, wanted).await
    }

    /// Stops the node, and starts a node that serves `manifest` with the same folder and data.
    pub(crate) async fn restart(mut self, manifest: &str) -> TestNode {
        self.request_stop();
        assert_eq!(within("stop", &mut self.serving).await.expect("the node does not panic"), 0);
        let Self { single_app, data, folder, options, .. } = self;
        let stores = single_app.stores().clone();
        drop(single_app);
        stores.closed(data.path()).await;
        drop(data);
        let setup = Setup::new(manifest);
        Setup { folder, options, ..setup }.start().await
    }

    /// Makes the node stop after the requests in flight. Does not wait until the node has stopped.
    pub(crate) fn request_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the node and waits until it has stopped. Returns the number of connections that were aborted.
    pub(crate) async fn stop(mut self) -> usize {
        self.request_stop();
        within("stop", &mut self.serving).await.expect("the node does not panic")
    }
}
