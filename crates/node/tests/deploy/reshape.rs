//! Tests of changes of an app's shape while the app serves requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use isomer_admin::{Admin as _, AppApi as _, Caller};
use isomer_api::{
    LogLevel, LogLine, LogQuery, ProblemKind, QuotaChange, Release, ReshapeRequest, RevisionOperation, TenantChange,
};

use crate::migrating_app::refused;
use crate::node::{Client, TestNode, TestRelease, keep, shop};

/// The number of changes of the shape under load in an ordinary run. `ISOMER_LONG=1` makes 100 changes.
const CHANGES: usize = 10;

/// Returns a release of three components: `seam-entry` calls `seam-relay`, which calls `seam-callee`.
pub(crate) fn chain() -> TestRelease {
    let manifest = r#"
        [app]
        name = "shop"
        version = "1.0.0"
        [components.seam-entry]
        wasm = "seam-entry.wasm"
        routes = ["/..."]
        [components.seam-relay]
        wasm = "seam-relay.wasm"
        [components.seam-callee]
        wasm = "seam-callee.wasm"
        [shapes.isolated]
        isolate = "all"
        [shapes.micro]
        groups = "each"
    "#;
    let mut made = TestRelease {
        release: Release {
            manifest: manifest.to_owned(),
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
    for name in ["seam-entry", "seam-relay", "seam-callee"] {
        let part = made.part(isomer_test_guests::bytes(name));
        made.release.components.insert(name.to_owned(), part);
    }
    made
}

fn to(shape: &str) -> ReshapeRequest {
    ReshapeRequest { shape: shape.to_owned(), message: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_shape_changes() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let quotas = QuotaChange {
        requests_per_second: Some(1_000_000),
        requests_burst: Some(1_000_000),
        cpu_ms_per_second: Some(1_000_000),
        ..QuotaChange::default()
    };
    let (tenant, app) = shop();
    node.node.clone().set_tenant(tenant.clone(), TenantChange { quotas, hosts: None }).await.unwrap();
    let first = node.deploy(&chain()).await.unwrap();
    let (status, expected) = node.get("/pass?what=hello").await;
    assert_eq!(status, 200, "{expected}");
    let done = Arc::new(AtomicBool::new(false));
    let clients = (0..4).map(|_| {
        let (done, address, expected) = (done.clone(), node.address, expected.clone());
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut requests = 0;
            while !done.load(Ordering::Relaxed) || requests < 100 {
                let path = ["/pass?what=hello", "/pass-later?what=hello"][requests % 2];
                let response = client.get("shop.example", path).await;
                assert_eq!((response.0, &response.1), (200, &expected), "request {requests}");
                requests += 1;
            }
            requests
        })
    });
    let clients = clients.collect::<Vec<_>>();
    let changes = if std::env::var_os("ISOMER_LONG").is_some() { 100 } else { CHANGES };
    for shape in ["isolated", "micro", "monolith"].into_iter().cycle().take(changes) {
        let reshaped = node.node.clone().reshape(Caller::Node, tenant.clone(), app.clone(), to(shape)).await.unwrap();
        assert_eq!(reshaped.revision == first.revision, shape == "monolith");
    }
    keep(folder.path());
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() >= 100);
    }
    let refused = node.node.clone().tenant(tenant.clone()).await.unwrap().usage.refused;
    assert!(refused.is_empty(), "{refused:?}");
    let revisions = node.node.clone().revisions(tenant, app).await.unwrap();
    let origin = revisions[0].origin.as_ref().unwrap();
    assert_eq!(origin.how, RevisionOperation::Reshape);
    assert!(origin.changes.as_ref().is_some_and(|changes| changes.shape && changes.changed.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_shape_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, app) = shop();
    let reshape = |shape| node.node.clone().reshape(Caller::Node, tenant.clone(), app.clone(), to(shape));
    refused(reshape("micro"), ProblemKind::NotFound).await;
    let first = node.deploy(&chain()).await.unwrap();
    let problem = refused(reshape("round"), ProblemKind::NotFound).await;
    assert!(problem.title.ends_with("has no shape `round`"), "{problem:?}");
    assert!(
        problem.hints[0].starts_with("the app's shapes are ") && problem.hints[0].contains("`monolith`"),
        "{problem:?}"
    );
    let again = reshape("monolith").await.unwrap();
    assert_eq!((&again.revision, again.previous.as_ref()), (&first.revision, Some(&first.revision)));
    assert!(again.unchanged && !first.unchanged);
    let info = node.node.clone().app(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!(info.shape.as_deref(), Some("monolith"));
    let lines = node.node.clone().logs(tenant.clone(), app.clone(), LogQuery::default()).await.unwrap();
    let lines: Vec<LogLine> = lines.collect().await;
    let of_node: Vec<_> = lines.iter().filter(|line| line.stream == "node").collect();
    let [deployed, failed] = &of_node[..] else { panic!("two results, and none without a change: {lines:?}") };
    assert!(deployed.text.contains("now serves in shape monolith") && deployed.trace_id.is_some(), "{deployed:?}");
    assert!(failed.text.starts_with("reshape failed: ") && failed.text.contains("`round`"), "{failed:?}");
    assert_eq!((deployed.level, failed.level), (Some(LogLevel::Info), Some(LogLevel::Error)));
    assert_eq!(node.get("/pass?what=a").await.0, 200);
}
