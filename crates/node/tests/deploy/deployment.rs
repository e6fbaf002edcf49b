//! Tests of the effects of a deployment, a rollback, a swap and a removal, and of everything that they must leave
//! unchanged.
//!
//! The file is long because each kind of change has its cases here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use isomer_admin::{Admin as _, AppApi as _, Caller};
use isomer_api::{AppState, LogQuery, ProblemKind, Quota, QuotaChange, RollbackRequest, SwapRequest, TenantChange};
use isomer_disk::FileStorage;
use isomer_ids::HostPattern;

use crate::migrating_app::refused;
use crate::node::{Client, TestNode, app, custom, keep, release, revision_in, shop, tenant};

fn hosts(names: &[&str]) -> Option<Vec<HostPattern>> {
    Some(names.iter().map(|name| name.parse().unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_and_rollbacks_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    assert_eq!(node.get("/").await.0, 404, "no app has the name");
    let one = node.deploy(&release("one")).await.unwrap();
    assert_eq!((one.previous.clone(), one.hosts.as_slice()), (None, hosts(&["shop.example"]).unwrap().as_slice()));
    assert_eq!(node.serving().await, "one");
    let two = node.deploy(&release("two")).await.unwrap();
    assert_eq!(two.previous.as_ref(), Some(&one.revision));
    assert!(!two.compiled, "only the manifest differs");
    assert_eq!(node.serving().await, "two");
    let (tenant, app) = shop();
    let api = || node.node.clone();
    let revisions = api().revisions(tenant.clone(), app.clone()).await.unwrap();
    let shown = revisions.iter().map(|one| (&one.revision, one.current)).collect::<Vec<_>>();
    assert_eq!(shown, [(&two.revision, true), (&one.revision, false)]);
    let back = api().rollback(Caller::Node, tenant.clone(), app.clone(), RollbackRequest::default()).await.unwrap();
    assert_eq!((&back.revision, node.serving().await.as_str()), (&one.revision, "one"));
    let to = RollbackRequest { revision: Some(two.revision.clone()), ..RollbackRequest::default() };
    api().rollback(Caller::Node, tenant.clone(), app.clone(), to).await.unwrap();
    assert_eq!(node.serving().await, "two");
    let info = api().app(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!((&info.revision, info.state, info.version.as_str()), (&two.revision, AppState::Loaded, "1.0.0"));
    let unknown = RollbackRequest {
        revision: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
        ..RollbackRequest::default()
    };
    refused(api().rollback(Caller::Node, tenant.clone(), app.clone(), unknown), ProblemKind::NotFound).await;
    keep(folder.path());
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    let info = node.node.clone().app(tenant, app).await.unwrap();
    assert_eq!(info.state, AppState::Idle);
    assert_eq!(node.serving().await, "two");
    assert_eq!(node.node.compilers_started(), 0, "a restart compiles nothing");
    let status = node.node.clone().status().await.unwrap();
    assert_eq!((status.tenants, status.apps, status.apps_loaded, status.loads), (1, 1, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploying_the_same_release_changes_host_names_only() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let first = node.deploy(&release("one")).await.unwrap();
    let started = node.node.compilers_started();
    let (tenant, app) = shop();
    let before = node.node.clone().app(tenant.clone(), app.clone()).await.unwrap();
    let again = node.deploy(&release("one")).await.unwrap();
    assert_eq!((&again.revision, again.previous.as_ref()), (&first.revision, Some(&first.revision)));
    assert_eq!(node.node.clone().app(tenant.clone(), app.clone()).await.unwrap(), before);
    let mut elsewhere = release("one");
    elsewhere.release.hosts = hosts(&["*.shops.example", "new.example"]);
    let moved = node.deploy(&elsewhere).await.unwrap();
    assert_eq!(moved.hosts, elsewhere.release.hosts.unwrap());
    let mut client = Client::connect(node.address).await;
    assert_eq!(client.get("shop.example", "/").await.0, 404);
    for host in ["new.example", "a.b.shops.example"] {
        assert_eq!(revision_in(&client.get(host, "/").await.1), "one", "{host}");
    }
    let mut without_hosts = release("two");
    without_hosts.release.hosts = None;
    assert_eq!(
        node.deploy(&without_hosts).await.unwrap().hosts,
        moved.hosts,
        "a release without host names keeps the app's host names"
    );
    assert_eq!(node.node.compilers_started(), started + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_release_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&release("one")).await.unwrap();
    let (tenant, app) = shop();
    let before = node.node.clone().app(tenant.clone(), app.clone()).await.unwrap();
    let mut bad = Vec::new();
    let mut wrong = release("two");
    wrong.release.manifest += "surprise = true\n";
    bad.push((wrong, "the manifest is invalid"));
    bad.push((custom("memory-hog", "limits.memory = \"64KiB\"", ""), "does not start"));
    bad.push((custom("http-trap", "", "").healthy_at("/trap"), "the revision is not healthy"));
    bad.push((
        custom("env-print", "grants.secrets = [\"key\"]", "[secrets]\nkey = { env = \"KEY\" }"),
        "lacks secrets",
    ));
    let escape = "grants.dirs = [{ host = \"../../state\", guest = \"/d\", write = true }]";
    bad.push((custom("dirs-probe", escape, ""), "names folders that a node cannot provide"));
    let mut module = release("two");
    let part = module.part(wat::parse_str("(module)").unwrap());
    module.release.components.insert("it".to_owned(), part);
    bad.push((module, "not a component, but a core module"));
    for (release, title) in bad {
        let problem = refused(node.deploy(&release), ProblemKind::Refused).await;
        assert!(problem.title.contains(title), "{problem:?}");
        assert_eq!(node.node.clone().app(tenant.clone(), app.clone()).await.unwrap(), before);
        assert_eq!(node.serving().await, "one", "{title}");
    }
    // The parts of this release are not uploaded.
    let two = release("two");
    let missing = custom("http-hello", "", "");
    let reply = node.node.clone().deploy(Caller::Node, tenant.clone(), app.clone(), missing.release);
    refused(reply, ProblemKind::Conflict).await;
    // The digest of the uploaded bytes differs from the announced digest.
    let digest = two.release.components["it"].digest.clone();
    refused(node.upload(&digest, b"other bytes".to_vec()), ProblemKind::BadRequest).await;
    // The tenant does not exist.
    let missing = self::tenant("missing");
    refused(node.deploy_as(&missing, &app, &two), ProblemKind::NotFound).await;
    assert_eq!(node.serving().await, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_health_check_refuses_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    // Without a grant for the secret, the guest responds with 403.
    let problem = refused(node.deploy(&custom("secret-probe", "", "").healthy_at("/")), ProblemKind::Refused).await;
    assert!(problem.detail.unwrap().contains("with status 403"));
    node.deploy(&custom("http-hello", "", "").healthy_at("/well")).await.unwrap();
    assert_eq!(node.get("/").await, (200, "hello from WASI 0.3\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let first = node.deploy(&release("one")).await.unwrap();
    let mut hello = custom("http-hello", "", "");
    let part = hello.release.components["it"].clone();
    node.upload(&part.digest, hello.bytes.remove(&part.digest).unwrap()).await.unwrap();
    let (tenant, app) = shop();
    let swap = SwapRequest { components: [("it".to_owned(), part.clone())].into(), message: None };
    let swapped = node.node.clone().swap(Caller::Node, tenant.clone(), app.clone(), swap).await.unwrap();
    assert_eq!(swapped.previous.as_ref(), Some(&first.revision));
    assert_eq!(node.get("/").await.1, "hello from WASI 0.3\n");
    let swap = SwapRequest { components: [("other".to_owned(), part)].into(), message: None };
    let problem =
        refused(node.node.clone().swap(Caller::Node, tenant.clone(), app.clone(), swap), ProblemKind::NotFound).await;
    assert!(problem.hints[0].contains("`it`"), "{problem:?}");
    node.node.clone().rollback(Caller::Node, tenant, app, RollbackRequest::default()).await.unwrap();
    assert_eq!(node.serving().await, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_deployment_of_an_app_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (one, two) = (release("one"), release("two"));
    node.deploy(&one).await.unwrap();
    let (tenant, app) = shop();
    let deploy = |release: &crate::node::TestRelease| {
        node.node.clone().deploy(Caller::Node, tenant.clone(), app.clone(), release.release.clone())
    };
    let (first, second) = futures::join!(deploy(&two), deploy(&two));
    let conflicts = [&first, &second].iter().filter(|reply| reply.is_err()).count();
    assert_eq!(conflicts, 1, "{first:?} {second:?}");
    let problem = first.err().or(second.err()).unwrap();
    assert_eq!(problem.kind, ProblemKind::Conflict);
    assert_eq!(node.serving().await, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_during_deployments() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let quotas = QuotaChange {
        requests_per_second: Some(1_000_000),
        requests_burst: Some(1_000_000),
        cpu_ms_per_second: Some(1_000_000),
        ..QuotaChange::default()
    };
    node.node.clone().set_tenant(shop().0, TenantChange { quotas, hosts: None }).await.unwrap();
    node.deploy(&release("0")).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let clients = (0..4).map(|_| {
        let (done, address) = (done.clone(), node.address);
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut requests = 0;
            while !done.load(Ordering::Relaxed) || requests < 100 {
                let (status, body) = client.get("shop.example", "/").await;
                assert_eq!(status, 200, "request {requests}: {body}");
                revision_in(&body);
                requests += 1;
            }
            requests
        })
    });
    let clients = clients.collect::<Vec<_>>();
    let (tenant, app) = shop();
    let api = || node.node.clone();
    for round in 1..=5 {
        node.deploy(&release(&round.to_string())).await.unwrap();
        api().rollback(Caller::Node, tenant.clone(), app.clone(), RollbackRequest::default()).await.unwrap();
        // The swapped component has an additional custom section, so its bytes differ but it behaves the same.
        let mut other = release("swapped");
        let mut bytes = isomer_test_guests::bytes("env-print");
        bytes.extend([0, 2, 1, b'0' + round]);
        let part = other.part(bytes);
        node.upload(&part.digest, other.bytes.remove(&part.digest).unwrap()).await.unwrap();
        let swap = SwapRequest { components: [("it".to_owned(), part)].into(), message: None };
        api().swap(Caller::Node, tenant.clone(), app.clone(), swap).await.unwrap();
    }
    keep(folder.path());
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() >= 100);
    }
    let problems = api().tenant(tenant).await.unwrap().usage.refused;
    assert!(problems.is_empty(), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_are_stopped_started_and_removed_with_or_without_data() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let writable = "grants.dirs = [{ host = \"notes\", guest = \"/notes\", write = true }, { host = \"static\", guest = \"/static\" }]";
    let made = custom("dirs-probe", writable, "").file("static/a.txt", "from the release");
    node.deploy(&made).await.unwrap();
    assert_eq!(node.get("/read?path=/static/a.txt").await, (200, "from the release".to_owned()));
    assert_eq!(node.get("/write?path=/static/a.txt").await.0, 403);
    assert_eq!(node.get("/write?path=/notes/mine").await.0, 200);
    let api = || node.node.clone();
    assert_eq!(api().stop(tenant.clone(), app.clone()).await.unwrap().state, AppState::Stopped);
    assert_eq!(node.get("/list?path=/notes").await.0, 503);
    api().start(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!(node.get("/list?path=/notes").await, (200, "mine\n".to_owned()));
    api().remove(tenant.clone(), app.clone(), false).await.unwrap();
    assert_eq!(node.get("/").await.0, 404);
    refused(api().app(tenant.clone(), app.clone()), ProblemKind::NotFound).await;
    node.deploy(&made).await.unwrap();
    assert_eq!(node.get("/list?path=/notes").await.1, "mine\n", "the app's data was kept");
    refused(api().remove_tenant(tenant.clone()), ProblemKind::Conflict).await;
    api().remove(tenant.clone(), app.clone(), true).await.unwrap();
    node.deploy(&made).await.unwrap();
    assert_eq!(node.get("/list?path=/notes").await, (200, String::new()), "the app's data was removed");
    api().remove(tenant.clone(), app.clone(), true).await.unwrap();
    api().remove_tenant(tenant.clone()).await.unwrap();
    assert!(!folder.path().join("tenants/default").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_belong_to_tenants_and_logs_to_apps() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let secret = custom("secret-probe", "grants.secrets = [\"key\"]", "[secrets]\nkey = { env = \"KEY\" }");
    let problem = refused(node.deploy(&secret), ProblemKind::Refused).await;
    assert_eq!(problem.hints, ["isomer secrets set key --tenant default"]);
    let api = || node.node.clone();
    api().set_secret(tenant.clone(), "key".parse().unwrap(), b"sesame".to_vec()).await.unwrap();
    assert_eq!(api().tenant(tenant.clone()).await.unwrap().secrets, ["key"]);
    node.deploy(&secret).await.unwrap();
    assert_eq!(node.get("/print?name=key").await, (200, "sesame".to_owned()));
    api().set_secret(tenant.clone(), "key".parse().unwrap(), b"changed".to_vec()).await.unwrap();
    assert_eq!(node.get("/?name=key").await, (200, "changed".to_owned()), "the next request has the new value");
    let query = LogQuery { lines: Some(10), follow: true, ..LogQuery::default() };
    let mut lines = api().logs(tenant.clone(), app.clone(), query).await.unwrap();
    // The log also contains the platform's own lines, for example about the deployment.
    let mut next = async || loop {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next()).await.unwrap().unwrap();
        if let Some(component) = line.component {
            return (component, line.text);
        }
    };
    assert_eq!(next().await, ("it".to_owned(), "secret sesame".to_owned()));
    node.get("/print?name=key").await;
    assert_eq!(next().await, ("it".to_owned(), "secret changed".to_owned()));
    let remove = |force| api().remove_secret(tenant.clone(), "key".parse().unwrap(), force);
    let problem = refused(remove(false), ProblemKind::Conflict).await;
    assert_eq!(problem.detail.as_deref(), Some("app `shop`, component `it`"));
    assert_eq!(node.get("/?name=key").await, (200, "changed".to_owned()));
    remove(true).await.unwrap();
    refused(
        node.deploy(&custom("secret-probe", "grants.secrets = [\"key\"]", "[secrets]\nkey = { env = \"K\" }")),
        ProblemKind::Refused,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_have_host_names_quotas_and_shared_code() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let api = || node.node.clone();
    let own = TenantChange { hosts: hosts(&["*.acme.example"]), ..TenantChange::default() };
    api().set_tenant(tenant("acme"), own).await.unwrap();
    let quotas =
        QuotaChange { apps: Some(1), requests_per_second: Some(1), requests_burst: Some(2), ..QuotaChange::default() };
    api().set_tenant(tenant("small"), TenantChange { quotas, hosts: None }).await.unwrap();
    let wrong = QuotaChange { outbound_hosts: Some(vec!["not a host".to_owned()]), ..QuotaChange::default() };
    let change = TenantChange { quotas: wrong, hosts: None };
    refused(api().set_tenant(tenant("small"), change), ProblemKind::BadRequest).await;
    let mut made = release("one");
    made.release.hosts = hosts(&["shop.acme.example"]);
    let shop = app("shop");
    let first = node.deploy_as(&tenant("acme"), &shop, &made).await.unwrap();
    let started = node.node.compilers_started();
    refused(node.deploy_as(&tenant("small"), &shop, &made), ProblemKind::Conflict).await;
    made.release.hosts = hosts(&["small.example"]);
    let second = node.deploy_as(&tenant("small"), &shop, &made).await.unwrap();
    assert_eq!((&second.revision, second.compiled), (&first.revision, false));
    assert_eq!(node.node.compilers_started(), started, "the package is the same");
    let problem = refused(node.deploy_as(&tenant("small"), &app("other"), &made), ProblemKind::Quota).await;
    assert_eq!(problem.quota, Some(Quota::Apps));
    let mut client = Client::connect(node.address).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("small.example", "/").await.0);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(client.get("shop.acme.example", "/").await.0, 200, "other apps are not affected");
    let usage = api().tenant(tenant("small")).await.unwrap().usage;
    assert_eq!(usage.refused.get(&Quota::RequestRate), Some(&2));
    assert_eq!(usage.refused.get(&Quota::Apps), Some(&1));
    assert_eq!(api().apps(None).await.unwrap().len(), 2);
    assert_eq!(api().apps(Some(tenant("small"))).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreferenced_files_are_removed_and_lost_code_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let count = |name: &str| {
        let mut folders = vec![folder.path().join(name)];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { files += 1 }
            }
        }
        files
    };
    let made = release("one").file("static/a", "text");
    node.deploy(&made).await.unwrap();
    node.upload(&custom("http-hello", "", "").release.components["it"].digest, isomer_test_guests::bytes("http-hello"))
        .await
        .unwrap();
    assert_eq!((count("blobs"), count("revisions")), (3, 1));
    let none = node.node.sweep(Duration::from_secs(3600)).await.unwrap();
    assert_eq!((none.blobs, none.revisions), (0, 0), "all files were used just now");
    let swept = node.node.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((swept.blobs, swept.revisions), (1, 0));
    assert_eq!((count("cache"), node.serving().await.as_str()), (1, "one"));
    node.stop().await;
    // The cached code is lost, or another process has changed it.
    let changes: [fn(&Path); 2] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let half = bytes.len() / 2;
            bytes[half] ^= 1;
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for change in changes {
        for entry in std::fs::read_dir(folder.path().join("cache")).unwrap() {
            change(&entry.unwrap().path());
        }
        let node = TestNode::open(folder.path()).await;
        assert_eq!(node.serving().await, "one");
        assert_eq!((node.node.compilers_started(), count("cache")), (2, 1), "one child composes, one child compiles");
        node.stop().await;
    }
    let node = TestNode::open(folder.path()).await;
    assert_eq!((node.serving().await.as_str(), node.node.compilers_started()), ("one", 0), "the compiled code is kept");
    let (tenant, app) = shop();
    node.node.clone().remove(tenant, app, true).await.unwrap();
    node.node.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((count("blobs"), count("revisions"), count("cache")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_leave_the_reserve_free() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::reserving(folder.path(), u64::MAX, None, FileStorage::new).await;
    let problem = refused(node.deploy(&release("one")), ProblemKind::Failed).await;
    assert!(problem.title.contains("no free space except the node's reserve"), "{problem:?}");
    let unfinished = std::fs::read_dir(folder.path().join("blobs/unfinished")).unwrap();
    assert_eq!(unfinished.count(), 0, "incomplete uploads are removed");
    let other = tenant("other");
    node.node.clone().set_tenant(other.clone(), TenantChange::default()).await.unwrap();
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    assert!(node.node.clone().tenant(other).await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_of_a_release_is_charged_to_its_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    // The release has many files with the same content and long paths.
    let long = |revision: &str| {
        let mut made = release(revision).file("a", "text");
        let part = made.release.files.values().next().unwrap().clone();
        let above = "x".repeat(250);
        let paths = (0..2000).map(|number| format!("{above}/{above}/{number}").parse().unwrap());
        made.release.files.extend(paths.map(|path| (path, part.clone())));
        made
    };
    let usage = async |node: &TestNode| node.node.clone().tenant(shop().0).await.unwrap().usage;
    node.deploy(&release("one")).await.unwrap();
    keep(folder.path());
    let before = usage(&node).await.storage_bytes;
    node.deploy(&release("two").file("static/page.html", "text")).await.unwrap();
    assert_eq!(usage(&node).await.storage_bytes, before, "a usual release is not charged");
    node.deploy(&long("three")).await.unwrap();
    let charged = usage(&node).await.storage_bytes - before;
    assert!(charged > 1 << 20, "{charged}");
    node.stop().await;
    node = TestNode::open(folder.path()).await;
    // The traces of the deployments are measured when the node starts.
    let counted = usage(&node).await.storage_bytes;
    let traces = counted.checked_sub(before + charged);
    assert!(traces.is_some_and(|bytes| bytes < 64 << 10), "the charge is the same after a restart: {traces:?}");
    let quotas = QuotaChange { storage_bytes: Some(before + charged + charged / 2), ..QuotaChange::default() };
    let change = TenantChange { quotas, ..TenantChange::default() };
    node.node.clone().set_tenant(tenant.clone(), change).await.unwrap();
    let count = || std::fs::read_dir(folder.path().join("revisions")).unwrap().count();
    let laid_out = count();
    let problem = refused(node.deploy(&long("four")), ProblemKind::Quota).await;
    assert!(problem.title.contains("of its storage"), "{problem:?}");
    assert_eq!(
        (count(), node.serving().await.as_str()),
        (laid_out, "three"),
        "no file of the refused revision was made"
    );
    let now = usage(&node).await;
    assert_eq!((now.storage_bytes, now.refused.get(&Quota::Storage)), (counted, Some(&1)));
    // The tenant's storage is nearly exhausted. Two operations still succeed: a rollback, because the revision is
    // already stored, and a deployment that needs little space.
    node.node.clone().rollback(Caller::Node, tenant.clone(), app.clone(), RollbackRequest::default()).await.unwrap();
    node.deploy(&release("five")).await.unwrap();
    assert_eq!(usage(&node).await.storage_bytes, counted);
    node.node.clone().remove(tenant, app, true).await.unwrap();
    assert_eq!(usage(&node).await.storage_bytes, 0, "the charge was released");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_revisions_leave_the_reserve_free_and_existing_ones_need_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    for revision in ["one", "two"] {
        node.deploy(&release(revision)).await.unwrap();
    }
    keep(folder.path());
    node.stop().await;
    let node = TestNode::reserving(folder.path(), u64::MAX, None, FileStorage::new).await;
    // All parts of the release are stored already, and no code needs to be compiled. So the deployment needs disk space
    // only for the new revision itself.
    let problem = refused(node.deploy(&release("three")), ProblemKind::Failed).await;
    assert!(problem.title.contains("no free space except the node's reserve"), "{problem:?}");
    assert_eq!(node.serving().await, "two");
    let (tenant, app) = shop();
    node.node.clone().rollback(Caller::Node, tenant, app, RollbackRequest::default()).await.unwrap();
    assert_eq!(node.serving().await, "one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_revision_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let count = || std::fs::read_dir(folder.path().join("revisions")).unwrap().count();
    let sick = || custom("http-trap", "", "").healthy_at("/trap").file("static/a", "text");
    for _ in 0..2 {
        refused(node.deploy(&sick()), ProblemKind::Refused).await;
        assert_eq!(count(), 0);
    }
    node.deploy(&release("one").file("static/a", "text")).await.unwrap();
    refused(node.deploy(&sick()), ProblemKind::Refused).await;
    keep(folder.path());
    assert_eq!((count(), node.serving().await.as_str()), (1, "one"));
    node.stop().await;
}
