//! An app in one of its shapes: one member for each group of the shape, linked as in the product. Unlike in the
//! product, all members run in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isomer_apps::AppFront;
use isomer_apps::{NewPackage, Package, PackageOptions, SingleApp, TenancyOptions};
use isomer_capabilities::DataDir;
use isomer_diagnostics::SourceFile;
use isomer_diagnostics::chain;
use isomer_front::Limits;
use isomer_link::{Address, Peer, PeerLimits, Server, ServerLimits};
use isomer_manifest::App;
use isomer_observe::{Format, Log};
use isomer_plan::{Plan, SeamMode};
use isomer_runtime::code::CodeCache;
use isomer_seam::{Components, PlanError};
use isomer_telemetry::Tracer;
use isomer_wire::Callee;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::log::MemoryLog;
use crate::harness::{PATIENCE, until, within};

/// The maximum number of instances of a member. It is as low as the tests allow, because address space is reserved for
/// each instance.
const INSTANCES_MAX: u32 = 16;

/// The transport of the links between members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Unix,
    Tcp,
}

/// An app with its built components.
pub(crate) struct Subject {
    pub(crate) app: App,
    /// The app's folder. Paths in the manifest are relative to it.
    pub(crate) dir: PathBuf,
    pub(crate) components: Components,
}

impl Subject {
    /// Parses the text of a manifest. The test fails if the manifest is invalid.
    pub(crate) fn app(manifest: &str) -> App {
        match isomer_manifest::parse(&SourceFile::new("isomer.toml", manifest)) {
            Ok(parsed) => parsed.app,
            Err(findings) => panic!("the test's manifest is invalid: {findings:?}"),
        }
    }

    /// Returns the plan of one of the app's shapes. The test fails if the plan is refused.
    pub(crate) fn plan(&self, shape: &str) -> Plan {
        match isomer_seam::plan(&self.app, &self.components, shape) {
            Ok(plan) => plan,
            Err(PlanError::Refused(findings)) => panic!("the plan refuses shape `{shape}`: {findings:#?}"),
            Err(error) => panic!("cannot plan the app: {}", chain(&error)),
        }
    }
}

/// The running members of an app in one of its shapes.
pub(crate) struct Fleet {
    /// The address of the front door of the member that receives requests.
    pub(crate) front: SocketAddr,
    pub(crate) plan: Plan,
    /// The plan digest that calls between members must contain.
    pub(crate) plan_digest: isomer_ids::PlanDigest,
    links: BTreeMap<String, Address>,
    memory: MemoryLog,
    log: Log,
    stop: watch::Sender<bool>,
    members: Vec<JoinHandle<usize>>,
    _apps: Vec<SingleApp>,
    _folder: TempDir,
}

/// The options for running a fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) shape: &'a str,
    pub(crate) transport: Transport,
    /// Whether each request and each call gets a new instance.
    pub(crate) fresh: bool,
    /// Whether all requests run probed code.
    pub(crate) is_probed: bool,
    /// The groups that are not started, because the test replaces them.
    pub(crate) without: &'a [&'a str],
}

impl Fleet {
    /// Starts the members of a shape. Each member starts after the members that it calls.
    pub(crate) async fn start(subject: &Subject, running: Running<'_>) -> Self {
        Self::start_traced(subject, running, |_| Tracer::default()).await
    }

    /// Starts the members like [`Fleet::start`]. `tracer` returns the tracer of a group.
    pub(crate) async fn start_traced(subject: &Subject, running: Running<'_>, tracer: impl Fn(&str) -> Tracer) -> Self {
        let plan = subject.plan(running.shape);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sockets = folder.path().join("links");
        std::fs::DirBuilder::new().mode(0o700).create(&sockets).expect("a folder of its own");
        let memory = MemoryLog::default();
        let log = Log::start(memory.clone(), Format::Json, false).expect("the log starts");
        let data = DataDir::open(&folder.path().join("data")).expect("a data directory of its own");
        let cache = CodeCache::open(&code_folder(folder.path())).expect("a folder for compiled code");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("port 0 is always free");
        let front = listener.local_addr().expect("the socket listens");
        let mut listener = Some(listener);
        let (stop, stopped) = watch::channel(false);
        let (mut links, mut members, mut apps) = (BTreeMap::new(), vec![], vec![]);
        let mut plan_digest = isomer_ids::PlanDigest::default();
        let is_probed = running.is_probed;
        for group in callees_first(&plan) {
            if running.without.contains(&&*group) {
                continue;
            }
            let has_routes = plan.processes()[&*group].iter().any(|group| !group.handlers.is_empty());
            let address = match running.transport {
                Transport::Unix => Address::Unix(sockets.join(format!("{group}.sock"))),
                Transport::Tcp => Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 },
            };
            let making =
                PackageOptions { shape: running.shape.to_owned(), process: Some(group.clone()), deterministic: true };
            let running = TenancyOptions {
                requests_per_instance_max: running.fresh.then_some(1),
                instances_max: Some(INSTANCES_MAX),
                ..TenancyOptions::unbounded()
            };
            let single_app = SingleApp::new(cache.clone(), log.clone(), running).expect("enough address space");
            let single_app = single_app.traced_by(tracer(&group));
            let made = single_app.make(&subject.app, &subject.components, &making, &|_| {});
            let NewPackage { package, .. } =
                made.unwrap_or_else(|error| panic!("cannot make the package of group `{group}`: {}", chain(&error)));
            // The package that was just made has the inputs of the probed code. One that was kept has not.
            let package = if is_probed {
                package
            } else {
                Package::from_bytes(&package.to_bytes()).expect("a package can be kept")
            };
            plan_digest = package.plan_digest();
            let peers = links.iter().map(|(group, address)| (String::clone(group), peer(group, address)));
            let started = single_app.start(package, &subject.dir, &data, peers.collect(), &|_| {}).await;
            let started = started.unwrap_or_else(|error| panic!("group `{group}` does not start: {}", chain(&error)));
            if is_probed {
                let fused = plan.processes()[&*group].iter().filter(|group| !group.links.is_empty()).count();
                until("the probed code", async || (started.probed_groups() == fused).then_some(())).await;
            }
            let server = Server::listen(&address, None, ServerLimits::default(), started.callee()).await;
            let server = server.unwrap_or_else(|error| panic!("group `{group}` cannot listen: {}", chain(&error)));
            links.insert(group, server.address().clone());
            members.push(tokio::spawn(server.serve(stop_requested(&stopped), PATIENCE)));
            single_app.take_over(started);
            if let Some(listener) = if has_routes { listener.take() } else { None } {
                let front = AppFront::from_listener(listener, Limits::default(), single_app.resolver(), log.clone());
                let front = front.expect("the socket listens already");
                members.push(tokio::spawn(front.serve(stop_requested(&stopped), PATIENCE)));
            }
            apps.push(single_app);
        }
        Self { front, plan_digest, plan, links, memory, log, stop, members, _apps: apps, _folder: folder }
    }

    /// Returns a callee that sends calls to a group over its link, as another group does.
    pub(crate) fn callee(&self, group: &str) -> Arc<dyn Callee> {
        peer(group, &self.links[group])
    }

    /// Returns all events of the log so far that report a failure.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.log.flush();
        let wrong = |event: &serde_json::Value| !matches!(event["event"].as_str(), Some("output" | "access"));
        self.memory.events().iter().filter(|event| wrong(event)).map(ToString::to_string).collect()
    }

    /// Stops all members, and checks that no connection was cut off.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for member in self.members {
            let cut_off = within("the end of a group", member).await.expect("no group panics");
            assert_eq!(cut_off, 0, "connections were cut off");
        }
    }
}

fn peer(group: &str, address: &Address) -> Arc<dyn Callee> {
    let peer = Peer::new(group, vec![address.clone()], None, PeerLimits::default());
    Arc::new(peer.unwrap_or_else(|error| panic!("cannot call group `{group}`: {}", chain(&error))))
}

fn stop_requested(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move { drop(stopped.wait_for(|stopped| *stopped).await) }
}

/// Returns the groups of a plan. Each group comes after the groups that it calls.
fn callees_first(plan: &Plan) -> Vec<String> {
    let process = |component| plan.group_of(component).expect("every component is in a group").process();
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> =
        plan.processes().into_keys().map(|name| (name, BTreeSet::new())).collect();
    for seam in plan.seams.iter().filter(|seam| seam.mode == SeamMode::Remote) {
        waiting.entry(process(&seam.link.importer)).or_default().insert(process(&seam.link.exporter));
    }
    let mut ordered = vec![];
    while !waiting.is_empty() {
        let ready: Vec<_> = waiting.iter().filter(|(_, calls)| calls.is_empty()).map(|(name, _)| *name).collect();
        assert!(!ready.is_empty(), "the groups call each other in circles: {waiting:?}");
        waiting.retain(|name, _| !ready.contains(name));
        waiting.values_mut().for_each(|calls| calls.retain(|name| !ready.contains(name)));
        ordered.extend(ready.into_iter().map(str::to_owned));
    }
    ordered
}

/// Returns the folder of compiled code. With the default seed, the folder is kept between runs, so that only changed
/// components are compiled. Code of another seed is in `temporary`, because no later run uses it.
fn code_folder(temporary: &Path) -> PathBuf {
    if crate::seed::is_usual() { Path::new(env!("CARGO_TARGET_TMPDIR")).join("code") } else { temporary.join("code") }
}

/// Returns a deadline for calls that is late enough to have no effect.
pub(crate) fn deadline() -> std::time::Instant {
    std::time::Instant::now() + PATIENCE - Duration::from_secs(1)
}
