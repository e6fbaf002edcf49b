//! Capabilities as guests see them: each interface with and without a grant, through a manifest, the engines and real
//! components.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod charges;
mod floods;
mod quotas;
mod tenants;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use isomer_capabilities::{AppGrants, AppResources, Capabilities, CapabilityError, CapabilityLimits, DataDir, Engines};
use isomer_diagnostics::SourceFile;
use isomer_manifest::DirGrant;
use isomer_runtime::engine::{Engine, Slots};
use isomer_runtime::guest::{Directory, OwnerSettings};
use isomer_runtime::{
    Account, Graph, Group, GroupHandle, GroupSettings, GuestRequest, HttpHandlerExport, Import, InterfaceOwner,
    Provider,
};
use isomer_telemetry::{DiscardEvents, RequestId, SpanContext, TraceContext, Tracer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::component::Component;

/// An app with a single component, `probe`, which is a test guest.
struct Probe {
    group: GroupHandle,
    _capabilities: Capabilities,
    _home: Option<(DataDir, TempDir)>,
}

fn grants(manifest: &str) -> AppGrants {
    let text = format!("[app]\nname = \"test\"\nversion = \"0.1.0\"\n{manifest}");
    (&isomer_manifest::parse(&SourceFile::new("isomer.toml", text)).unwrap().app).into()
}

/// Returns the compiled test guest. Each one is compiled once per process.
fn compiled(guest: &str) -> (Engine, Component) {
    static COMPILED: Mutex<Option<(Engine, HashMap<String, Component>)>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let (engine, components) = compiled.get_or_insert_with(|| (Engine::on_demand().unwrap(), HashMap::new()));
    let compile = || Component::new(engine.wasmtime(), isomer_test_guests::bytes(guest)).unwrap();
    (engine.clone(), components.entry(guest.to_owned()).or_insert_with(compile).clone())
}

impl Probe {
    async fn new(guest: &str, grants: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("migrations")).unwrap();
        let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);";
        std::fs::write(dir.path().join("migrations/001.sql"), create).unwrap();
        std::fs::write(dir.path().join("secret.txt"), "from a file\n").unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let engines = Engines::new(CapabilityLimits::default());
        let probe = Self::at(guest, grants, &AppResources::of_process(dir.path(), &data), &engines).await.unwrap();
        Self { _home: Some((data, dir)), ..probe }
    }

    /// Starts a test guest as an app with `resources`.
    async fn at(
        guest: &str,
        grants: &str,
        resources: &AppResources,
        engines: &Engines,
    ) -> Result<Self, CapabilityError> {
        let app = self::grants(&format!("[components.probe]\nwasm = \"probe.wasm\"\n{grants}"));
        let capabilities = Capabilities::open(&app, resources, engines).await?;
        let (engine, component) = compiled(guest);
        let directory = |grant: &DirGrant| Directory {
            host: resources.files.directory(grant).unwrap(),
            guest: grant.guest.clone(),
            write: grant.write,
        };
        let directories: Vec<_> = app.dirs().map(directory).collect();
        let folders = directories.iter().map(|directory| directory.host.clone()).collect();
        let owner = OwnerSettings {
            component: "probe".into(),
            outbound: capabilities.outbound("probe"),
            storage: capabilities.watch_folders(folders),
            directories,
            ..OwnerSettings::default()
        };
        let ty = component.component_type();
        let imports: Vec<_> = ty
            .imports(engine.wasmtime())
            .map(|(name, _)| Import {
                name: name.to_owned(),
                interface: name.to_owned(),
                owner: InterfaceOwner::Component("probe".into()),
            })
            .collect();
        let export = ty.exports(engine.wasmtime()).map(|(name, _)| name.to_owned());
        let export = export.into_iter().find(|name| name.starts_with("wasi:http/")).expect("a handler");
        let handlers = [HttpHandlerExport { interface: export.clone(), export }];
        let settings = GroupSettings {
            metrics: Arc::default(),
            owners: vec![owner],
            sink: Arc::new(DiscardEvents),
            account: Account::unlimited(),
            slots: Slots { memories: 1, tables: 1, stacks: 2 },
            state_bytes: 0,
            memory_bytes: 64 << 20,
            concurrency: 1,
            instances_max: 4,
            requests_per_instance_max: 100,
            instance_age_max: Duration::from_secs(60),
            stubs: Vec::new(),
            skeletons: Vec::new(),
            has_fused_seams: false,
        };
        let group =
            Group::new(&engine, &component.into(), &imports, &handlers, capabilities.providers(), settings).unwrap();
        let group = Graph::new(isomer_ids::PlanDigest::default(), vec![group], Tracer::default()).group(0);
        Ok(Self { group, _capabilities: capabilities, _home: None })
    }

    async fn ask(&self, path: &str, body: &str) -> (u16, String) {
        self.try_ask(path, body).await.unwrap_or_else(|failure| panic!("{path}: {failure}"))
    }

    /// Sends a request like [`Probe::ask`]. Returns the error if the guest fails.
    async fn try_ask(&self, path: &str, body: &str) -> Result<(u16, String), String> {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).map_err(|never| match never {}).boxed_unsync();
        let allowed = Duration::from_secs(30);
        let http = http::Request::builder().method("POST").uri(format!("http://probe.test{path}")).body(body).unwrap();
        let request = GuestRequest {
            http,
            id: RequestId::from_raw(1).unwrap(),
            span: SpanContext::unrecorded(TraceContext::start(RequestId::random().into())),
            deadline: Instant::now() + allowed,
            allowed,
            stream_allowed: allowed,
            handler: 0,
            component: "probe".into(),
            buffer_bytes: 0,
        };
        let response = self.group.handle(request).await.map_err(|failure| format!("{failure:?}"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        Ok((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
    }

    async fn expect(&self, path: &str, body: &str, status: u16, text: &str) {
        assert_eq!(self.ask(path, body).await, (status, text.to_owned()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_value_of_the_second_draft() {
    let probe = Probe::new("kv-probe", "grants.kv = [\"default\", \"other\"]").await;
    probe.expect("/get?key=a", "", 404, "none\n").await;
    probe.expect("/set?key=a", "one", 200, "set\n").await;
    probe.expect("/get?key=a", "", 200, "one").await;
    probe.expect("/get?key=a&store=other", "", 404, "none\n").await;
    probe.expect("/exists?key=a", "", 200, "true\n").await;
    probe.expect("/delete?key=a", "", 200, "deleted\n").await;
    probe.expect("/exists?key=a", "", 200, "false\n").await;
    probe.expect("/increment?key=n&delta=-5", "", 200, "-5\n").await;
    probe.expect("/swap?key=a", "x", 200, "swapped after 1\n").await;
    probe.expect("/swap?key=a", "y", 200, "swapped after 1\n").await;
    probe.expect("/get?key=a", "", 200, "xy").await;
    probe.expect("/stale-swap?key=a", "", 409, "from another").await;
    probe.expect("/set-many", "b=1\nc=2\n", 200, "set 2\n").await;
    probe.expect("/get-many?keys=b,nothing,c", "", 200, "b=1\nnothing\nc=2\n").await;
    probe.expect("/list-all", "", 200, "a\nb\nc\nn\n").await;
    probe.expect("/list?cursor=b", "", 200, "c\nn\n").await;
    probe.expect("/delete-many?keys=b,c", "", 200, "deleted\n").await;
    probe.expect("/list-all", "", 200, "a\nn\n").await;
    let (status, text) = probe.ask(&format!("/get?key={}", "k".repeat(2000)), "").await;
    assert!(status == 500 && text.contains("more than the maximum of 1 KiB"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_value_of_the_first_draft() {
    let probe = Probe::new("kv-probe-draft", "grants.kv = [\"default\"]").await;
    probe.expect("/set?key=a", "one", 200, "set\n").await;
    probe.expect("/get?key=a", "", 200, "one").await;
    probe.expect("/increment?key=n&delta=3", "", 200, "3\n").await;
    probe.expect("/get-many?keys=a,nothing", "", 200, "a=one\nnothing\n").await;
    probe.expect("/list-all", "", 200, "a\nn\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_without_a_grant_is_denied() {
    for guest in ["kv-probe", "kv-probe-draft"] {
        let probe = Probe::new(guest, "").await;
        probe.expect("/get?key=a", "", 403, "access-denied\n").await;
        let probe = Probe::new(guest, "grants.kv = [\"other\"]").await;
        probe.expect("/get?key=a", "", 403, "access-denied\n").await;
        probe.expect("/get?key=a&store=..%2fother", "", 403, "access-denied\n").await;
    }
    let probe = Probe::new("sql-probe", "").await;
    let (status, text) = probe.ask("/query", "SELECT 1").await;
    assert!(status == 403 && text.contains("`probe` has no grant for the SQL store `default`"), "{status} {text}");
    let probe = Probe::new("secret-probe", "").await;
    let (status, text) = probe.ask("/?name=key", "").await;
    assert!(status == 403 && text.contains("`probe` has no grant for the secret `key`"), "{status} {text}");
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let probe = Probe::new(guest, "").await;
        let (status, text) = probe.ask("/?url=http://127.0.0.1:9/", "").await;
        assert_eq!(status, 502, "{text}");
        assert!(text.contains("HttpRequestDenied"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_with_rows_errors_and_transactions() {
    let settings =
        "grants.sql = [\"default\"]\n[sql.default]\nmigrations = \"migrations\"\nstatement_timeout = \"100ms\"";
    let probe = Probe::new("sql-probe", settings).await;
    probe.expect("/execute?p=t:a", "INSERT INTO t (name) VALUES (?)", 200, "changed=1\n").await;
    let all = "SELECT id, name FROM t ORDER BY id";
    probe.expect("/query", all, 200, "id\tname\ni:1\tt:a\n").await;
    let values = "SELECT ?, ?, ?, ?, ?";
    let (status, text) = probe.ask("/query?p=n:|i:-7|r:1.5|t:x|b:0aff", values).await;
    assert_eq!((status, text.lines().nth(1)), (200, Some("n:\ti:-7\tr:1.5\tt:x\tb:0aff")), "{text}");
    assert_eq!(probe.ask("/execute?p=t:a", "INSERT INTO t (name) VALUES (?)").await.0, 409);
    assert_eq!(probe.ask("/execute", "ATTACH 'x' AS y").await.0, 400);
    assert_eq!(probe.ask("/query?p=n:", all).await.0, 400);
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    probe.expect("/query", endless, 504, "timeout: \n").await;
    let (status, _) = probe.ask("/query", &format!("SELECT 1 -- {}", "x".repeat(200_000))).await;
    assert_eq!(status, 413);
    let both = "INSERT INTO t (name) VALUES ('b')\n?SELECT count(*) AS n FROM t";
    probe.expect("/transaction?end=rollback", both, 200, "changed=1\nn\ni:2\nrollback\n").await;
    probe.expect("/transaction?end=drop", both, 200, "changed=1\nn\ni:2\ndrop\n").await;
    probe.expect("/transaction", both, 200, "changed=1\nn\ni:2\ncommit\n").await;
    probe.expect("/query", all, 200, "id\tname\ni:1\tt:a\ni:2\tt:b\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_readable_only_with_a_grant() {
    let settings = "grants.secrets = [\"key\"]\n[secrets]\nkey = { file = \"secret.txt\" }\nother = { env = \"ISOMER_TEST_UNSET\" }";
    let probe = Probe::new("secret-probe", settings).await;
    probe.expect("/?name=key", "", 200, "from a file").await;
    assert_eq!(probe.ask("/?name=other", "").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_requests_reach_granted_hosts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 203 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let probe = Probe::new(guest, &format!("grants.http = [\"127.0.0.1:{port}\"]")).await;
        probe.expect(&format!("/?url=http://127.0.0.1:{port}/x"), "", 203, "GET /x HTTP/1.1").await;
        let (status, text) = probe.ask("/?url=http://127.0.0.1:1/", "").await;
        assert!(status == 502 && text.contains("HttpRequestDenied"), "{status} {text}");
        let probe = Probe::new(guest, "grants.http = [\"*\"]").await;
        let (status, text) = probe.ask(&format!("/?url=http://127.0.0.1:{port}/x"), "").await;
        assert!(status == 502 && text.contains("DestinationIpProhibited"), "{status} {text}");
    }
}

/// Each owner of an import gets its own grants from the app's providers.
#[tokio::test]
async fn owners_have_their_own_grants_and_unequal_ones_never_share() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = "[components.a]\nwasm = \"a.wasm\"\ngrants.kv = [\"one\"]\n[components.b]\nwasm = \"b.wasm\"\n";
    let data = DataDir::open(Path::new(&dir.path().join("data"))).unwrap();
    let engines = Engines::new(CapabilityLimits::default());
    let resources = AppResources::of_process(dir.path(), &data);
    let capabilities = Capabilities::open(&grants(manifest), &resources, &engines).await.unwrap();
    let engine = Engine::on_demand().unwrap();
    let id = "wasi:keyvalue/store@0.2.0-draft2";
    let link = |owner: &InterfaceOwner| {
        let mut linker = wasmtime::component::Linker::new(engine.wasmtime());
        let mut instance = linker.instance("any-label").unwrap();
        let provider: &Arc<dyn Provider> = capabilities.providers().iter().find(|it| it.provides(id)).unwrap();
        provider.link(&mut instance, id, owner).map_err(|error| error.to_string())
    };
    assert_eq!(link(&InterfaceOwner::Component("a".into())), Ok(()));
    assert_eq!(link(&InterfaceOwner::Component("unknown".into())), Ok(()));
    assert_eq!(link(&InterfaceOwner::Shared(vec!["a".into(), "a".into()])), Ok(()));
    let unequal = link(&InterfaceOwner::Shared(vec!["a".into(), "b".into()])).unwrap_err();
    assert!(unequal.contains("have different grants"), "{unequal}");
    for other in [
        "wasi:keyvalue/store@0.3.0",
        "wasi:keyvalue/watcher@0.2.0-draft",
        "isomer:sql/store@9.0.0",
        "wasi:io/poll@0.2.0",
    ] {
        assert!(!capabilities.providers().iter().any(|it| it.provides(other)), "{other}");
    }
}
