//! A node that serves several tenants and has no data directory. The test implements the repository from which apps are
//! loaded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use isomer_api::{Quotas, TenantUsage};
use isomer_apps::revision::engine;
use isomer_apps::tenancy::{AppRepository, LaunchSpec, RepositoryError, RetiredRevision, StandbyRevision};
use isomer_apps::{Package, PackageOptions, Tenancy, TenancyOptions};
use isomer_capabilities::outbound::TenantHosts;
use isomer_capabilities::secrets::SecretValues;
use isomer_capabilities::{AppFiles, AppResources, GrantedBy, StorageAccount};
use isomer_diagnostics::chain;
use isomer_front::Limits;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};
use isomer_manifest::App;
use isomer_observe::{Format, Log};
use isomer_runtime::Account;
use isomer_runtime::code::CodeCache;
use isomer_runtime::engine::PoolSizes;
use isomer_seam::Components;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::harness::client::{Connection, TestResponse};
use crate::harness::front::{TestFront, front};
use crate::harness::log::MemoryLog;
use crate::harness::{Counted, code_folder, components, one, parse, within};

/// The tenants and apps of a node, behind a front door.
pub(crate) struct TestTenancy {
    pub(crate) tenancy: Tenancy,
    pub(crate) repository: Arc<TestRepository>,
    front: TestFront,
    memory: MemoryLog,
    log: Log,
    folder: TempDir,
    _counted: Counted,
}

/// The names of a tenant and of one of its apps.
type Name = (String, String);

/// A revision, and the bytes of its package.
type Packed = (ReleaseDigest, Vec<u8>);

/// A repository in memory that contains one package for each app.
#[derive(Default)]
pub(crate) struct TestRepository {
    packages: Mutex<HashMap<Name, Packed>>,
    folder: Mutex<PathBuf>,
    fetches: watch::Sender<usize>,
    closed: Mutex<bool>,
    /// The tenant whose apps can be fetched even while the repository is closed.
    exempt: Mutex<Option<String>>,
    /// The number of fetches that will be refused as if the repository were busy.
    busy: AtomicUsize,
    opened: Condvar,
}

impl TestRepository {
    /// Returns the number of fetches so far, including failed ones.
    pub(crate) fn fetches(&self) -> usize {
        *self.fetches.borrow()
    }

    /// Waits until there were `number` fetches, including failed ones.
    pub(crate) async fn fetched(&self, number: usize) {
        let mut fetches = self.fetches.subscribe();
        let fetched = fetches.wait_for(|fetches| *fetches == number);
        let _ = within(&format!("{number} fetches"), fetched).await.expect("`self` is the sender");
    }

    /// Makes all fetches wait until [`TestRepository::open`] is called.
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    /// Closes the repository like [`TestRepository::close`], for all tenants except `tenant`.
    pub(crate) fn close_but_for(&self, tenant: &str) {
        *self.exempt.lock().unwrap() = Some(tenant.to_owned());
        self.close();
    }

    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Makes the next `times` fetches fail as if the repository were busy.
    pub(crate) fn be_busy(&self, times: usize) {
        self.busy.store(times, Ordering::SeqCst);
    }

    /// Removes the package of an app from the repository.
    pub(crate) fn lose(&self, tenant: &str, app: &str) {
        self.packages.lock().unwrap().remove(&(tenant.to_owned(), app.to_owned()));
    }

    fn place(&self, tenant: &str, app: &str) -> AppResources {
        let folder = self.folder.lock().unwrap().join(tenant).join(app);
        let files = AppFiles::Own { files: folder.join("files"), writable: folder.join("dirs") };
        std::fs::create_dir_all(folder.join("files")).unwrap();
        AppResources {
            kv: folder.join("kv"),
            sql: folder.join("sql"),
            session_key: folder.join("sessions.key"),
            files,
            storage: Arc::new(StorageAccount::unlimited()),
            account: Account::unlimited(),
            statement_time_max: Duration::MAX,
            outbound: Some(Arc::new(TenantHosts::new(None).unwrap())),
            secrets: SecretValues::Given(Default::default()),
            environment: Arc::default(),
            candidate: None,
            series: Arc::default(),
            granted_by: GrantedBy::Manifest,
        }
    }
}

impl TestRepository {
    /// Fetches an app's package. Blocks while the repository is closed.
    fn fetch_now(
        &self,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
    ) -> Result<LaunchSpec, RepositoryError> {
        self.fetches.send_modify(|fetches| *fetches += 1);
        if self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1)).is_ok() {
            return Err(RepositoryError::Busy("too many wait".into()));
        }
        let closed = self.closed.lock().unwrap();
        let is_exempt = self.exempt.lock().unwrap().as_deref() == Some(tenant.as_str());
        drop(self.opened.wait_while(closed, |closed| *closed && !is_exempt).unwrap());
        let packages = self.packages.lock().unwrap();
        let found = packages.get(&(tenant.to_string(), app.to_string())).filter(|(there, _)| there == revision);
        let (_, bytes) = found.ok_or_else(|| RepositoryError::Failed("the repository has no such package".into()))?;
        let package = Arc::new(Package::from_bytes(bytes).map_err(|error| RepositoryError::Failed(error.into()))?);
        Ok(LaunchSpec {
            package,
            place: self.place(tenant.as_str(), app.as_str()),
            log: None,
            access: None,
            tracer: isomer_telemetry::Tracer::default(),
            probes: None,
        })
    }
}

impl AppRepository for TestRepository {
    fn fetch(
        self: Arc<Self>,
        tenant: TenantName,
        app: AppName,
        revision: ReleaseDigest,
    ) -> BoxFuture<'static, Result<LaunchSpec, RepositoryError>> {
        Box::pin(
            async move { tokio::task::spawn_blocking(move || self.fetch_now(&tenant, &app, &revision)).await.unwrap() },
        )
    }
}

impl TestTenancy {
    /// Creates a node without tenants.
    pub(crate) async fn new(change: impl FnOnce(&mut TenancyOptions)) -> Self {
        Self::sized(256, |_| {}, change).await
    }

    /// Creates a node without tenants. `instances` is the size of its instance pool. `limit` changes the front door's
    /// limits, and `change` the node's options.
    pub(crate) async fn sized(
        instances: u32,
        limit: impl FnOnce(&mut Limits),
        change: impl FnOnce(&mut TenancyOptions),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryLog::default();
        let log = Log::start(memory.clone(), Format::Json, false).unwrap();
        let repository =
            Arc::new(TestRepository { folder: Mutex::new(folder.path().to_owned()), ..TestRepository::default() });
        let mut options = TenancyOptions { instances_max: Some(16), ..TenancyOptions::unbounded() };
        change(&mut options);
        let engine = engine(PoolSizes::new(instances), false).unwrap();
        let cache = CodeCache::open(&code_folder()).unwrap();
        let counted = Counted(engine.clone());
        let tenancy = Tenancy::new(engine, cache, log.clone(), repository.clone(), options);
        let front = front(Arc::new(tenancy.clone()), limit).await;
        Self { tenancy, repository, front, memory, log, folder, _counted: counted }
    }

    /// Creates a node with the given tenants, which have the default quotas.
    pub(crate) async fn of(tenants: &[&str], change: impl FnOnce(&mut TenancyOptions)) -> Self {
        let world = Self::new(change).await;
        for tenant in tenants {
            world.tenant(tenant, |_| {});
        }
        world
    }

    /// Adds a tenant, or changes the quotas of an existing one.
    pub(crate) fn tenant(&self, name: &str, change: impl FnOnce(&mut Quotas)) {
        let mut quotas = Quotas::default();
        change(&mut quotas);
        self.tenancy.set_tenant(&name.parse().unwrap(), &quotas).unwrap();
    }

    pub(crate) fn usage(&self, tenant: &str) -> TenantUsage {
        self.tenancy.usage(&tenant.parse().unwrap()).expect("the tenant is there")
    }

    /// Makes the package of an app whose components are test guests, and adds it to the repository.
    pub(crate) fn make(&self, tenant: &str, app: &str, manifest: &str) -> ReleaseDigest {
        self.make_of(tenant, app, manifest, components)
    }

    /// Makes the package of an app whose components are `components`, and adds it to the repository.
    pub(crate) fn make_of(
        &self,
        tenant: &str,
        app: &str,
        manifest: &str,
        components: impl FnOnce(&App) -> Components,
    ) -> ReleaseDigest {
        let manifest = format!("[app]\nname = \"{app}\"\nversion = \"0.1.0\"\n\n{manifest}");
        let parsed = parse(&manifest);
        let (engine, cache) = (self.tenancy.engine(), self.tenancy.cache());
        let made = Package::make(&parsed, &components(&parsed), &PackageOptions::default(), engine, cache, &|_| {});
        let package = made.unwrap_or_else(|error| panic!("cannot make the package: {}", chain(&error))).package;
        // Here, the release digest is computed from the manifest. Unlike a plan digest, it depends on configuration
        // values.
        let revision = revision_of(&manifest);
        let key = (tenant.to_owned(), app.to_owned());
        self.repository.packages.lock().unwrap().insert(key, (revision.clone(), package.to_bytes()));
        revision
    }

    /// Makes an app's package and adds the app without loading it, as after a restart of the node.
    pub(crate) fn put(&self, tenant: &str, app: &str, hosts: &[&str], manifest: &str) {
        let revision = self.make(tenant, app, manifest);
        self.put_made(tenant, app, hosts, &revision);
    }

    /// Adds an app without loading it. Its package must already be in the repository.
    pub(crate) fn put_made(&self, tenant: &str, app: &str, hosts: &[&str], revision: &ReleaseDigest) {
        let (tenant, app) = (tenant.parse().unwrap(), app.parse().unwrap());
        self.tenancy.put(&tenant, &app, revision, &patterns(hosts), false).unwrap();
    }

    /// Makes and starts a revision of an app, which can then take over.
    pub(crate) async fn start(&self, tenant: &str, app: &str, manifest: &str) -> StandbyRevision {
        let revision = self.make(tenant, app, manifest);
        let (tenant, app) = (tenant.parse().unwrap(), app.parse().unwrap());
        let spec = self.repository.fetch_now(&tenant, &app, &revision).unwrap();
        let started = self.tenancy.start(&tenant, &app, &revision, &spec, &|_| {}).await;
        started.unwrap_or_else(|error| panic!("the revision does not start: {}", chain(&error)))
    }

    /// Makes and starts a revision of an app, which then takes over.
    pub(crate) async fn deploy(
        &self,
        tenant: &str,
        app: &str,
        hosts: &[&str],
        manifest: &str,
    ) -> Option<RetiredRevision> {
        let started = self.start(tenant, app, manifest).await;
        self.tenancy.take_over(started, &patterns(hosts)).unwrap()
    }

    /// Opens an HTTP/1.1 connection for requests to `host`.
    pub(crate) async fn connect(&self, host: &str) -> Connection {
        self.connect_with(host, false).await
    }

    /// Opens a connection for requests to `host`, with HTTP/2 if `http2` is true.
    pub(crate) async fn connect_with(&self, host: &str, http2: bool) -> Connection {
        let stream = within("connect", TcpStream::connect(self.front.address)).await.expect("the front door is open");
        within("a handshake", Connection::over(stream, http2, host)).await
    }

    /// Sends a GET request to `host` over a new connection and reads the complete response.
    pub(crate) async fn get(&self, host: &str, target: &str) -> TestResponse {
        self.connect(host).await.get(target).await
    }

    /// Sends a POST request to `host` over a new connection and reads the complete response.
    pub(crate) async fn post(&self, host: &str, target: &str, contents: &str) -> TestResponse {
        self.connect(host).await.post(target, contents).await
    }

    /// Returns the warnings and errors in the log so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.log.flush();
        let events = self.memory.events();
        let warnings = events.iter().filter(|event| event["event"] == "warning" || event["event"] == "error");
        warnings.map(|event| event["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the address of the front door.
    #[allow(dead_code, reason = "tests of hostile guests use it")]
    pub(crate) fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// Returns the folder with the data of all apps.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Returns the manifest of an app that responds with `name`.
pub(crate) fn named(name: &str) -> String {
    one("env-print", &format!("grants.config = {{ NAME = \"{name}\" }}"))
}

/// Returns the name in `response`. The app that sent the response must have a manifest that [`named`] returned.
#[track_caller]
pub(crate) fn name_in(response: &TestResponse) -> String {
    let line = response.ok().lines().find_map(|line| line.strip_prefix("env=NAME="));
    line.unwrap_or_else(|| panic!("no name: {}", response.text())).to_owned()
}

pub(crate) fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    hosts.iter().map(|host| host.parse().unwrap()).collect()
}

fn revision_of(manifest: &str) -> ReleaseDigest {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    manifest.hash(&mut hasher);
    ReleaseDigest::from(u128::from(hasher.finish()).to_be_bytes())
}
