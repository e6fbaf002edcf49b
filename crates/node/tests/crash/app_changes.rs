//! Changes of an app: its revision, its host names, stop, start and removal.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use isomer_admin::{Admin as _, Caller};
use isomer_api::{RollbackRequest, SwapRequest};
use isomer_node::ChangeStep;
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::child::{Change, Steps, kill_after};
use crate::node::{TestNode, copy, custom, keep, release, shop};

pub(crate) fn tests() -> Vec<Trial> {
    let shared = Arc::new(Shared::default());
    let test = |change: AppChange| {
        let shared = shared.clone();
        let name = format!("app_changes::a_kill_at_any_step_leaves_the_old_or_the_new_revision::{change:?}");
        crate::test(name, move || async move { a_kill_leaves_the_old_or_the_new_revision(change, &shared).await })
    };
    AppChange::ALL.into_iter().map(test).collect()
}

/// A change of the test's app, whose current revision is `two` and whose previous revision is `one`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppChange {
    Deploy,
    DeployElsewhere,
    Rollback,
    Swap,
    Stop,
    /// Start the app, which was stopped.
    Start,
    Remove,
}

impl AppChange {
    pub(crate) const ALL: [Self; 7] =
        [Self::Deploy, Self::DeployElsewhere, Self::Rollback, Self::Swap, Self::Stop, Self::Start, Self::Remove];

    pub(crate) async fn run(self, node: &TestNode) {
        let (tenant, app) = shop();
        let api = node.node.clone();
        match self {
            Self::Deploy => drop(node.deploy(&release("three").file("static/a", "text")).await.unwrap()),
            Self::DeployElsewhere => {
                let mut made = release("two");
                made.release.hosts = Some(vec!["shop.example".parse().unwrap(), "more.example".parse().unwrap()]);
                node.deploy(&made).await.unwrap();
            }
            Self::Rollback => drop(api.rollback(Caller::Node, tenant, app, RollbackRequest::default()).await.unwrap()),
            Self::Swap => {
                let mut hello = custom("http-hello", "", "");
                let part = hello.release.components["it"].clone();
                node.upload(&part.digest, hello.bytes.remove(&part.digest).unwrap()).await.unwrap();
                api.swap(
                    Caller::Node,
                    tenant,
                    app,
                    SwapRequest { components: [("it".to_owned(), part)].into(), message: None },
                )
                .await
                .unwrap();
            }
            Self::Stop => drop(api.stop(tenant, app).await.unwrap()),
            Self::Start => drop(api.start(tenant, app).await.unwrap()),
            Self::Remove => api.remove(tenant, app, true).await.unwrap(),
        }
    }

    /// Returns the app's response before the change.
    fn response_before(self) -> (u16, &'static str) {
        if self == Self::Start { (503, "") } else { (200, "env=REVISION=two") }
    }

    /// Returns the app's response after the change.
    fn response(self) -> (u16, &'static str) {
        match self {
            Self::Deploy => (200, "env=REVISION=three"),
            Self::DeployElsewhere | Self::Start => (200, "env=REVISION=two"),
            Self::Rollback => (200, "env=REVISION=one"),
            Self::Swap => (200, "hello from WASI 0.3"),
            Self::Stop => (503, ""),
            Self::Remove => (404, ""),
        }
    }
}

/// The data directories from which the tests of the changes start.
struct Bases {
    folder: TempDir,
    /// The data directory of a node on which the app serves revision `two`.
    serving: PathBuf,
    /// The data directory of a node on which the app is stopped.
    stopped: PathBuf,
}

impl Bases {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (serving, stopped) = (folder.path().join("serving"), folder.path().join("stopped"));
        fs::create_dir(&serving).unwrap();
        let node = TestNode::open_warm(&serving).await;
        for name in ["one", "two"] {
            node.deploy(&release(name)).await.unwrap();
        }
        let data = serving.join("tenants/default/apps/shop/kv");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("cart"), "data").unwrap();
        // Compile the code in advance, so that no step waits for the compiler.
        node.deploy_as(&shop().0, &"hello".parse().unwrap(), &{
            let mut made = custom("http-hello", "", "");
            made.release.hosts = None;
            made
        })
        .await
        .unwrap();
        keep(&serving);
        node.stop().await;
        copy(&serving, &stopped);
        let node = TestNode::open(&stopped).await;
        node.node.clone().stop(shop().0, shop().1).await.unwrap();
        node.stop().await;
        Self { folder, serving, stopped }
    }
}

/// What the tests of all changes share.
#[derive(Default)]
struct Shared {
    bases: OnceLock<Bases>,
    /// The changes whose test has passed, and the steps after which their processes were killed.
    covered: Mutex<(usize, BTreeSet<ChangeStep>)>,
}

async fn check_response(node: &TestNode, expected: (u16, &str), at: &str) {
    let (status, body) = node.get("/").await;
    let is_it = status == expected.0 && (status != 200 || body.lines().any(|line| line == expected.1));
    assert!(is_it, "{at}: {status} {body:?} and not {expected:?}");
}

/// Kills a process after every step of the change.
async fn a_kill_leaves_the_old_or_the_new_revision(change: AppChange, shared: &Shared) {
    let bases = tokio::task::block_in_place(|| {
        shared.bases.get_or_init(|| tokio::runtime::Handle::current().block_on(Bases::make()))
    });
    let (folder, base) =
        (bases.folder.path(), if change == AppChange::Start { &bases.stopped } else { &bases.serving });
    let steps = steps_of(change, base, &folder.join(format!("{change:?}"))).await;
    assert!(steps.len() >= 2, "{change:?}: {steps:?}");
    // At this step, the change is recorded. A kill before this step leaves the old revision.
    let counts = if change == AppChange::Remove { ChangeStep::Forgotten } else { ChangeStep::Recorded };
    let counts = steps.iter().position(|step| *step == counts).unwrap();
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{change:?} killed at {step:?}");
        let dir = folder.join(format!("{change:?}-{step:?}"));
        copy(base, &dir);
        kill_after(Change::App(change), *step, &dir);
        let node = TestNode::open(&dir).await;
        let is_new = index >= counts;
        check_response(&node, if is_new { change.response() } else { change.response_before() }, &at).await;
        assert_eq!(node.node.compilers_started(), 0, "{at}: a restart compiles nothing");
        let kept = dir.join("tenants/default/apps/shop/kv/cart").exists();
        assert_eq!(kept, !(is_new && change == AppChange::Remove), "{at}: data");
        if !is_new {
            // After the restart, the change can be made again.
            change.run(&node).await;
            check_response(&node, change.response(), &at).await;
        }
        node.stop().await;
        fs::remove_dir_all(&dir).unwrap();
    }
    let mut covered = shared.covered.lock().unwrap();
    covered.0 += 1;
    covered.1.extend(steps);
    if covered.0 == AppChange::ALL.len() {
        // These steps occur only in changes that replace stores, which have a test of their own.
        let replacing = [ChangeStep::Held, ChangeStep::Noted, ChangeStep::Staged, ChangeStep::Switched];
        let all = ChangeStep::ALL.into_iter().filter(|step| !replacing.contains(step)).collect();
        assert_eq!(covered.1, all, "a process was killed after every step");
    }
}

/// Returns the steps of the change, in order.
async fn steps_of(change: AppChange, base: &Path, dir: &Path) -> Vec<ChangeStep> {
    copy(base, dir);
    let steps = Steps::default();
    let node = TestNode::watched(dir, Some(steps.watch())).await;
    change.run(&node).await;
    check_response(&node, change.response(), "done").await;
    node.stop().await;
    steps.take()
}
