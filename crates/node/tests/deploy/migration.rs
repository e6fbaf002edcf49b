//! Tests of deployments that change the schema of a store: the data after a refused or successful deployment, and
//! after rollbacks.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use isomer_admin::{Admin as _, Caller};
use isomer_api::{ApiProblem, ProblemKind, Quota, QuotaChange, RollbackRequest, TenantChange};
use isomer_node::ChangeStep;
use isomer_node::Node;
use isomer_node::revisions::snapshots::SNAPSHOTS_MAX;

use crate::migrating_app::{columns, data, encoded, notes, refused, run, same, with_migrations, write};
use crate::node::{Client, POLL_INTERVAL, TestNode, Watch, custom, keep, shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_deployment_leaves_the_store_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    write(&node, "second").await;
    keep(folder.path());
    node.stop().await;
    let before = data(folder.path());
    let bad = [
        (with_migrations(2).healthy_at("/check/read/note/nowhere"), "is not healthy"),
        (with_migrations(2).healthy_at("/check/insert/nowhere/text"), "is not healthy"),
        (with_migrations(1).healthy_at("/check/insert/nowhere/text"), "is not healthy"),
        (with_migrations(2).file("sql/003.sql", "INSERT INTO nowhere VALUES (1);"), "003.sql"),
        (with_migrations(1).file("sql/001.sql", "CREATE TABLE other (x);"), "was changed"),
    ];
    for (release, title) in bad {
        let node = TestNode::open(folder.path()).await;
        let problem = refused(node.deploy(&release), ProblemKind::Refused).await;
        assert!(problem.title.contains(title), "{title}: {problem:?}");
        tells_no_path(folder.path(), &problem);
        node.stop().await;
        same(&before, &data(folder.path()), title);
        // The refusal also leaves the store unchanged if the node has the store open.
        let node = TestNode::open(folder.path()).await;
        assert_eq!(notes(&node).await, ["first", "second"]);
        refused(node.deploy(&release), ProblemKind::Refused).await;
        assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 1), "{title}");
        node.stop().await;
        same(&before, &data(folder.path()), title);
    }
    let node = TestNode::open(folder.path()).await;
    node.deploy(&with_migrations(2).healthy_at("/check/insert/note/c2")).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 2), "writes of the health check are dropped");
}

/// Checks that a problem does not contain the path of the node's data directory. Problems must show the paths of the
/// app's files as the app's author knows them.
fn tells_no_path(data: &Path, problem: &ApiProblem) {
    let text = format!("{} {:?} {:?}", problem.title, problem.detail, problem.hints);
    assert!(!text.contains(data.to_str().unwrap()), "{text}");
    assert!(!text.contains(".sql`") || text.contains("`sql/00"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_about_app_files_use_the_authors_paths() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&with_migrations(2)).await.unwrap();
    keep(folder.path());
    let lines = |host: &str| format!("grants.http = [{{ host = \"{host}\", authority = \"ca/company.pem\" }}]\n");
    let trusting = custom("env-print", &lines("billing.internal"), "");
    for (release, title) in [
        (with_migrations(2).file("sql/0015.sql", "CREATE TABLE late (x);"), "`sql/0015.sql` is new"),
        (with_migrations(2).file("sql/003.sql", "ROLLBACK;"), "`sql/003.sql` of the SQL store `default` failed"),
        (
            with_migrations(3).file("sql/003.sql", "DROP TABLE nothing;"),
            "`sql/003.sql` of the SQL store `default` failed",
        ),
        (trusting.clone().file("ca/company.pem", "none"), "there is no certificate in `ca/company.pem`"),
        (trusting.clone(), "the manifest names folders that a node cannot provide"),
    ] {
        let problem = node.deploy(&release).await.unwrap_err();
        assert!(problem.title.contains(title), "{title}: {problem:?}");
        tells_no_path(folder.path(), &problem);
    }
    let authority = include_str!("../../../capabilities/tests/outbound/tls/ca.pem");
    node.deploy(&trusting.file("ca/company.pem", authority)).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_a_health_check_are_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    for round in 0..2 {
        let other =
            custom("sql-probe", &format!("grants.sql = [\"default\"]\ngrants.config = {{ R = \"{round}\" }}"), "");
        node.deploy(&other.healthy_at("/check/insert/note/text")).await.unwrap();
        assert_eq!(notes(&node).await, ["first"]);
    }
    let kv = |round: u32| {
        let lines = format!("grants.kv = [\"default\"]\ngrants.config = {{ R = \"{round}\" }}");
        custom("kv-probe", &lines, "").healthy_at("/increment")
    };
    for round in 0..3 {
        node.deploy(&kv(round)).await.unwrap();
        assert_eq!(node.get("/increment").await, (200, format!("{}\n", round + 1)), "the health checks used copies");
    }
    assert!(fs::read_dir(folder.path().join("trials")).into_iter().flatten().next().is_none(), "no file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollbacks_serve_the_newer_schema_or_restore_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let api = |node: &TestNode| node.node.clone();
    let one = node.deploy(&with_migrations(1)).await.unwrap();
    assert!(one.stores[0].migrated == ["001.sql"] && !one.stores[0].snapshot, "{:?}", one.stores);
    write(&node, "under one").await;
    let two = node.deploy(&with_migrations(3)).await.unwrap();
    assert!(two.stores[0].migrated == ["002.sql", "003.sql"] && two.stores[0].snapshot, "{:?}", two.stores);
    write(&node, "under two").await;
    assert_eq!(columns(&node).await, 3);
    let revisions = api(&node).revisions(tenant.clone(), app.clone()).await.unwrap();
    assert!(revisions[0].snapshot.is_none() && revisions[1].snapshot.as_ref().unwrap().stores[0].store == "default");
    // A rollback without a snapshot changes neither the schema nor the data.
    let back =
        api(&node).rollback(Caller::Node, tenant.clone(), app.clone(), RollbackRequest::default()).await.unwrap();
    assert_eq!(back.revision, one.revision);
    assert_eq!(back.stores[0].newer, ["002.sql", "003.sql"]);
    assert_eq!((notes(&node).await.len(), columns(&node).await), (3, 3));
    write(&node, "under one again").await;
    keep(folder.path());
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    assert_eq!(notes(&node).await.len(), 4, "the revision is loaded after a restart");
    // A rollback to a snapshot restores the schema and the data.
    let to = RollbackRequest { revision: Some(one.revision.clone()), to_snapshot: true, message: None };
    let restored = api(&node).rollback(Caller::Node, tenant.clone(), app.clone(), to).await.unwrap();
    assert!(restored.stores[0].restored_to.is_some() && restored.stores[0].snapshot, "{:?}", restored.stores);
    assert_eq!((notes(&node).await, columns(&node).await), (vec!["first".to_owned(), "under one".to_owned()], 1));
    node.stop().await;
    let node = TestNode::open(folder.path()).await;
    assert_eq!(notes(&node).await.len(), 2);
    // A rollback to a snapshot can itself be undone, because it saves the data that it replaces as a snapshot of the
    // revision in service, which was revision one here. This is now the newest snapshot of revision one, so a second
    // rollback to the snapshot of revision one restores the replaced data.
    let to = RollbackRequest { revision: Some(one.revision.clone()), to_snapshot: true, message: None };
    api(&node).rollback(Caller::Node, tenant.clone(), app.clone(), to).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (4, 3));
    let nothing = RollbackRequest { revision: Some(two.revision.clone()), to_snapshot: true, message: None };
    refused(api(&node).rollback(Caller::Node, tenant.clone(), app.clone(), nothing), ProblemKind::NotFound).await;
    for count in 4..8 {
        node.deploy(&with_migrations(count)).await.unwrap();
        write(&node, "more").await;
    }
    let snapshots = folder.path().join("tenants/default/apps/shop/snapshots");
    assert_eq!(fs::read_dir(snapshots).unwrap().count(), SNAPSHOTS_MAX);
    let usage = api(&node).tenant(tenant).await.unwrap().usage.storage_bytes;
    assert!(usage > 4 * 8192, "snapshots are counted: {usage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_lose_no_acknowledged_write_and_fail_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let quotas = QuotaChange {
        requests_per_second: Some(1_000_000),
        requests_burst: Some(1_000_000),
        cpu_ms_per_second: Some(1_000_000),
        ..QuotaChange::default()
    };
    node.node.clone().set_tenant(shop().0, TenantChange { quotas, hosts: None }).await.unwrap();
    node.deploy(&with_migrations(1)).await.unwrap();
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..3).map(|_| {
        let (done, written, address) = (done.clone(), written.clone(), node.address);
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            while !done.load(Ordering::Relaxed) {
                let insert = encoded("INSERT INTO note (text) VALUES ('x')");
                let (status, body) = client.get("shop.example", &format!("/execute?sql={insert}")).await;
                assert_eq!(status, 200, "{body}");
                written.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let clients = clients.collect::<Vec<_>>();
    for count in 2..=5 {
        let enough = written.load(Ordering::SeqCst) + 10;
        node.deploy(&with_migrations(count)).await.unwrap();
        while written.load(Ordering::SeqCst) < enough {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(columns(&node).await, 5);
    assert_eq!(notes(&node).await.len(), 1 + written.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_need_room_in_the_tenants_storage() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    node.deploy(&with_migrations(1)).await.unwrap();
    run(&node, "execute", "INSERT INTO note (text) VALUES (hex(zeroblob(1000000)))").await;
    let used = node.node.clone().tenant(tenant.clone()).await.unwrap().usage.storage_bytes;
    let quota = |bytes: u64| TenantChange {
        quotas: QuotaChange { storage_bytes: Some(bytes), ..QuotaChange::default() },
        hosts: None,
    };
    node.node.clone().set_tenant(tenant.clone(), quota(used + 1_000_000)).await.unwrap();
    let problem = node.deploy(&with_migrations(2)).await.unwrap_err();
    assert!(problem.title.contains("quota `storage`"), "{problem:?}");
    assert_eq!(columns(&node).await, 1);
    let after = node.node.clone().tenant(tenant.clone()).await.unwrap().usage;
    assert!(after.refused.contains_key(&Quota::Storage), "{after:?}");
    assert!(after.storage_bytes < used + 100_000, "copies are not counted any more: {after:?}");
    // The quota has room for one snapshot.
    node.node.clone().set_tenant(tenant.clone(), quota(used * 2 + 1_000_000)).await.unwrap();
    let kept = async || {
        let revisions = node.node.clone().revisions(tenant.clone(), app.clone()).await.unwrap();
        revisions.iter().map(|one| one.snapshot.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(node.deploy(&with_migrations(2)).await.unwrap().warnings, [""; 0]);
    assert_eq!(kept().await, [false, true]);
    // A refused deployment does not remove the snapshot, no matter how much space its copies need.
    for release in [
        with_migrations(3).healthy_at("/check/insert/nowhere/text"),
        with_migrations(2).healthy_at("/check/insert/nowhere/text"),
        with_migrations(2).file("sql/003.sql", "INSERT INTO nowhere VALUES (1);"),
    ] {
        refused(node.deploy(&release), ProblemKind::Refused).await;
        assert_eq!(kept().await, [false, true]);
    }
    // A deployment that takes over removes the oldest snapshot, and returns a warning about the removal.
    let warnings = node.deploy(&with_migrations(3).healthy_at("/check/insert/note/text")).await.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("the oldest snapshot"), "{warnings:?}");
    assert_eq!(columns(&node).await, 3);
    assert_eq!(kept().await, [false, true, false]);
    let usage = node.node.clone().tenant(tenant.clone()).await.unwrap().usage;
    assert!(usage.storage_bytes <= used * 2 + 1_000_000, "the loan of storage was returned: {usage:?}");
}

/// A function that the node calls after each step. The test sets the function after the node is open.
type AtStep = Arc<OnceLock<Box<dyn Fn(ChangeStep) + Send + Sync>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_changed_during_a_deployment_takes_effect() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let at_step = AtStep::default();
    let watch: Watch = {
        let at_step = at_step.clone();
        Arc::new(move |step| {
            if let Some(at_step) = at_step.get() {
                at_step(step);
            }
        })
    };
    let node = TestNode::watched(folder.path(), Some(watch)).await;
    let (tenant, _) = shop();
    let api: Weak<Node> = Arc::downgrade(&node.node);
    let changing = Arc::new(Mutex::new(None::<(ChangeStep, &'static str)>));
    let (awaited, key) = (changing.clone(), tenant.clone());
    let change = move |step| {
        // Release the lock before the next line, because setting the secret calls this function again for its own
        // steps.
        let change = awaited.lock().unwrap().take_if(|(at, _)| *at == step);
        let Some((_, value)) = change else { return };
        let (api, tenant) = (api.upgrade().unwrap(), key.clone());
        tokio::task::block_in_place(|| {
            let set = api.set_secret(tenant, "key".parse().unwrap(), value.as_bytes().to_vec());
            tokio::runtime::Handle::current().block_on(set).unwrap();
        });
    };
    assert!(at_step.set(Box::new(change)).is_ok());
    node.node.clone().set_secret(tenant, "key".parse().unwrap(), b"first".to_vec()).await.unwrap();
    let plain = |round: &str| {
        let lines = format!("grants.secrets = [\"key\"]\ngrants.config = {{ R = \"{round}\" }}");
        custom("secret-probe", &lines, "[secrets]\nkey = { env = \"KEY\" }")
    };
    let with_store = |round: &str| {
        let lines =
            format!("grants.secrets = [\"key\"]\ngrants.kv = [\"default\"]\ngrants.config = {{ S = \"{round}\" }}");
        custom("secret-probe", &lines, "[secrets]\nkey = { env = \"KEY\" }")
    };
    let steps = [(ChangeStep::Started, "a"), (ChangeStep::Healthy, "b"), (ChangeStep::Recorded, "c")];
    for (step, value) in steps {
        for release in [plain(value), with_store(value)] {
            *changing.lock().unwrap() = Some((step, value));
            node.deploy(&release).await.unwrap();
            assert!(changing.lock().unwrap().is_none(), "the secret was changed");
            assert_eq!(node.get("/?name=key").await, (200, value.to_owned()), "changed at {step:?}");
        }
    }
}
