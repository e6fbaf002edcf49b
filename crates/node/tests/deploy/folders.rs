//! Tests of writable folders of a candidate: a revision must not write to the app's folders before it takes over.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use isomer_admin::Admin as _;
use isomer_api::{ProblemKind, QuotaChange, TenantChange};
use isomer_node::ChangeStep;

use crate::migrating_app::{data, refused, same};
use crate::node::{TestNode, TestRelease, Watch, custom, keep, shop, warm};

/// Returns a release of an app with a writable folder, whose responses contain `round`.
fn with_folder(round: &str) -> TestRelease {
    let lines = format!(
        "grants.dirs = [{{ host = \"notes\", guest = \"/notes\", write = true }}]\ngrants.config = {{ R = \"{round}\" }}"
    );
    custom("dirs-probe", &lines, "")
}

async fn mine(node: &TestNode) -> String {
    let (status, body) = node.get("/read?path=/notes/mine").await;
    assert_eq!(status, 200, "{body}");
    body
}

/// Returns a counter, and a callback to pass to the node. The callback increments the counter when a candidate is
/// started.
fn counting() -> (Arc<AtomicUsize>, Watch) {
    let started = Arc::new(AtomicUsize::new(0));
    let counter = started.clone();
    let watch = move |step| {
        if step == ChangeStep::Started {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    };
    (started, Arc::new(watch))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_a_candidate_are_discarded() {
    let folder = tempfile::tempdir().unwrap();
    warm(folder.path());
    let node = TestNode::open(folder.path()).await;
    // The app's folder does not exist yet, so the health check writes to a folder of the candidate.
    node.deploy(&with_folder("0").healthy_at("/check/append/notes/mine")).await.unwrap();
    assert_eq!(node.get("/list?path=/notes").await, (200, String::new()));
    assert_eq!(node.get("/append?path=/notes/mine").await.0, 200);
    assert_eq!(node.get("/make-dir?path=/notes/deep").await.0, 200);
    assert_eq!(node.get("/link?path=/notes/link&to=mine").await.0, 200);
    keep(folder.path());
    node.stop().await;
    let before = data(folder.path());
    let (started, watch) = counting();
    let node = TestNode::watched(folder.path(), Some(watch)).await;
    let rounds = [
        // The health check writes to no granted folder, so the candidate needs no copy of it, and is started once.
        ("1", "/check/read/notes/mine", 1),
        // The health check writes to a granted folder, so the candidate is started again with a copy of the folder.
        ("2", "/check/append/notes/mine", 2),
        ("3", "/check/append/notes/deep/other", 2),
        ("4", "/check/append/notes/link", 2),
    ];
    for (round, path, starts) in rounds {
        started.store(0, Ordering::SeqCst);
        node.deploy(&with_folder(round).healthy_at(path)).await.unwrap();
        assert_eq!((started.load(Ordering::SeqCst), mine(&node).await.as_str()), (starts, ""), "{path}");
    }
    let fails = with_folder("5").healthy_at("/check/append-and-fail/notes/mine");
    let problem = refused(node.deploy(&fails), ProblemKind::Refused).await;
    assert!(problem.title.contains("not healthy") && problem.detail.unwrap().contains("500"));
    assert_eq!(mine(&node).await, "");
    // The revision has an additional folder, in which its health check creates a file.
    let lines = "grants.dirs = [{ host = \"new\", guest = \"/new\", write = true }, { host = \"notes\", guest = \"/notes\", write = true }]";
    let more = custom("dirs-probe", lines, "").healthy_at("/check/append-and-fail/new/mine");
    refused(node.deploy(&more), ProblemKind::Refused).await;
    node.stop().await;
    same(&before, &data(folder.path()), "after all");
    let left = fs::read_dir(folder.path().join("trials")).into_iter().flatten().count();
    assert_eq!((left, folder.path().join("tenants/default/apps/shop/dirs/new").exists()), (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_copies_folders_stay_read_only_and_the_refusal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    let (tenant, _) = shop();
    node.deploy(&with_folder("0")).await.unwrap();
    assert_eq!(node.get("/fill?path=/notes/mine&bytes=1000000").await.0, 200);
    let used = node.node.clone().tenant(tenant.clone()).await.unwrap().usage.storage_bytes;
    let quotas = QuotaChange { storage_bytes: Some(used.max(1_000_000) + 500_000), ..QuotaChange::default() };
    node.node.clone().set_tenant(tenant.clone(), TenantChange { quotas, hosts: None }).await.unwrap();
    let problem =
        refused(node.deploy(&with_folder("1").healthy_at("/check/append/notes/other")), ProblemKind::Refused).await;
    assert!(problem.hints.iter().any(|hint| hint.contains("could not write to the app's folders")), "{problem:?}");
    node.deploy(&with_folder("2").healthy_at("/check/read/notes/mine")).await.unwrap();
    assert_eq!(node.get("/list?path=/notes").await, (200, "mine\n".to_owned()));
    let usage = node.node.clone().tenant(tenant).await.unwrap().usage;
    assert!(usage.storage_bytes < used.max(1_000_000) + 100_000, "copies are not counted any more: {usage:?}");
}
