//! Tests of changes that fail while they are recorded, for example because the disk fails. A change that is reported as
//! failed was not made, unless the report says that the outcome is unknown. In this case, the node determines the
//! outcome later, with or without a restart.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isomer_admin::Admin as _;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_disk::faults::{Fault, Faults, FaultyStorage};
use isomer_node::ChangeStep;

use crate::migrating_app::{columns, notes, with_migrations, write};
use crate::node::{POLL_INTERVAL, TestNode, TestRelease, Watch, keep, release, shop};

/// The maximum time that a test waits for a condition. Only a test that hangs waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const NEVER: u64 = u64::MAX;

/// A node that stores its state in a storage that can be made to fail: after a chosen step, a number of operations
/// succeed, and then all operations fail.
pub(crate) struct Failing {
    pub(crate) node: TestNode,
    pub(crate) faults: Faults,
    /// The number of operations that still succeed; [`NEVER`] if no operation is to fail.
    pub(crate) left: Arc<AtomicU64>,
    /// The number of storage operations between the step that was passed to `open` and the step `Recorded`, if no
    /// operation fails.
    operations: Arc<AtomicU64>,
}

impl Failing {
    pub(crate) async fn open(dir: &Path, after: ChangeStep) -> Self {
        let faults = Faults::default();
        let (left, operations) = (Arc::new(AtomicU64::new(NEVER)), Arc::new(AtomicU64::new(0)));
        let watch: Watch = {
            let (faults, left, operations) = (faults.clone(), left.clone(), operations.clone());
            Arc::new(move |step| {
                if step == after {
                    operations.store(faults.operations(), Ordering::SeqCst);
                    match left.load(Ordering::SeqCst) {
                        NEVER => {}
                        left => faults.begin(Fault::Broken, left),
                    }
                } else if step == ChangeStep::Recorded {
                    let before = operations.load(Ordering::SeqCst);
                    operations.store(faults.operations() - before, Ordering::SeqCst);
                }
            })
        };
        let storage = faults.clone();
        let node =
            TestNode::over(dir, Some(watch), move |path| FaultyStorage::new(path.to_owned(), storage.clone())).await;
        Self { node, faults, left, operations }
    }

    /// Deploys `release` while the storage fails after `left` operations, and then repairs the storage.
    async fn deploy(&self, release: &TestRelease, left: u64) -> Result<(), ApiProblem> {
        self.left.store(left, Ordering::SeqCst);
        let deployed = self.node.deploy(release).await;
        self.left.store(NEVER, Ordering::SeqCst);
        self.faults.end();
        deployed.map(drop)
    }

    /// Waits until the node's state can be read and the outcome of each change is known. Returns the recorded revision.
    async fn recorded_revision(&self) -> String {
        let (tenant, app) = shop();
        let until = Instant::now() + PATIENCE;
        // Wait until the node has finished the replacement by itself. Otherwise, starting the app below would finish it,
        // and the test would not check the node.
        while is_something_in(&self.node.node.dir().join("takeovers")) {
            assert!(Instant::now() < until, "a replacement is not finished");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        loop {
            // The start is refused while another change is in progress, or while the state cannot be written.
            let stopped = self.node.node.clone().start(tenant.clone(), app.clone()).await;
            match stopped {
                Ok(info) => return info.revision.as_str().to_owned(),
                Err(problem) => assert!(Instant::now() < until, "{problem:?}"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn is_something_in(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_and_revision_agree_wherever_recording_fails() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let failing = Failing::open(folder.path(), ChangeStep::Staged).await;
    failing.node.deploy(&with_migrations(1)).await.unwrap();
    let second = failing.node.deploy(&with_migrations(2)).await.unwrap();
    // The number of migrations and the name of the revision that serves.
    let mut serves = (2, second.revision.as_str().to_owned());
    keep(folder.path());
    let operations = failing.operations.load(Ordering::SeqCst);
    assert!(operations > 2, "{operations}");
    let (mut written, mut outcomes) = (1, BTreeSet::new());
    for left in 0..operations {
        let at = format!("operation {left} of {operations}");
        let count = serves.0 + 1;
        let deployed = failing.deploy(&with_migrations(count), left).await;
        if let Err(problem) = &deployed {
            assert_eq!(problem.kind, ProblemKind::Failed, "{at}: {problem:?}");
        }
        let revision = failing.recorded_revision().await;
        let is_new = revision != serves.1;
        assert!(is_new || deployed.is_err(), "{at}: the deployment was acknowledged");
        outcomes.insert((deployed.is_ok(), is_new));
        if is_new {
            serves = (count, revision);
        }
        assert_eq!(
            (columns(&failing.node).await, notes(&failing.node).await.len()),
            (serves.0, written),
            "{at}: {deployed:?}"
        );
        write(&failing.node, "later").await;
        written += 1;
    }
    assert!(outcomes.contains(&(false, false)), "{outcomes:?}");
    failing.node.stop().await;
    let node = TestNode::open(folder.path()).await;
    assert_eq!((columns(&node).await, notes(&node).await.len()), (serves.0, written), "after a restart");
    assert!(std::fs::read_dir(folder.path().join("takeovers")).unwrap().next().is_none(), "no intent is left");
    node.deploy(&with_migrations(serves.0 + 1)).await.unwrap();
    // Some changes whose outcome was unknown were reported as failed, but were made.
    assert!(outcomes.contains(&(false, true)), "{outcomes:?}");
}

/// The node stops before the state can be read again, so the next start determines the outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_start_determines_unknown_outcomes() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let failing = Failing::open(folder.path(), ChangeStep::Staged).await;
    failing.node.deploy(&with_migrations(1)).await.unwrap();
    failing.node.deploy(&with_migrations(2)).await.unwrap();
    keep(folder.path());
    let operations = failing.operations.load(Ordering::SeqCst);
    failing.node.stop().await;
    // The operation that fails is the commit. Without the commit, nothing of the transaction is stored.
    let (mut count, mut unsettled) = (2, 0);
    for left in operations.saturating_sub(8)..operations {
        let failing = Failing::open(folder.path(), ChangeStep::Staged).await;
        failing.left.store(left, Ordering::SeqCst);
        let deployed = failing.node.deploy(&with_migrations(count + 1)).await;
        // The storage is not repaired before the node stops.
        failing.node.stop().await;
        let node = TestNode::open(folder.path()).await;
        let (tenant, app) = shop();
        let revisions = node.node.clone().revisions(tenant, app).await.unwrap();
        let found = columns(&node).await;
        assert!(found == count + 1 || (found == count && deployed.is_err()), "{left}: {found} columns, {deployed:?}");
        unsettled += usize::from(found == count + 1 && deployed.is_err());
        let serving = &revisions[0];
        let again = node.deploy(&with_migrations(found)).await.unwrap();
        assert_eq!(&again.revision, &serving.revision, "{left}: the schema is that of the revision in service");
        count = found;
        node.stop().await;
    }
    assert!(unsettled > 0, "a change was made although it was reported as failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_serving_revision_is_the_recorded_one_wherever_recording_fails() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let failing = Failing::open(folder.path(), ChangeStep::Healthy).await;
    failing.node.deploy(&release("first")).await.unwrap();
    let mut serves = failing.node.deploy(&release("second")).await.unwrap().revision.as_str().to_owned();
    let operations = failing.operations.load(Ordering::SeqCst);
    let mut name = "second".to_owned();
    for left in 0..operations {
        let next = format!("after {left} operations");
        let deployed = failing.deploy(&release(&next), left).await;
        let revision = failing.recorded_revision().await;
        if revision != serves {
            (serves, name) = (revision, next);
        } else {
            deployed.unwrap_err();
        }
        assert_eq!(failing.node.serving().await, name, "operation {left} of {operations}");
    }
    failing.node.stop().await;
    assert_eq!(TestNode::open(folder.path()).await.serving().await, name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_and_data_exist_together_wherever_recording_a_removal_fails() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let node = TestNode::open_warm(&base).await;
    node.deploy(&release("one")).await.unwrap();
    keep(&base);
    node.stop().await;
    const DATA: &str = "tenants/default/apps/shop/kv";
    std::fs::create_dir_all(base.join(DATA)).unwrap();
    std::fs::write(base.join(DATA).join("cart"), "data").unwrap();
    let mut outcomes = BTreeSet::new();
    for left in 0..24 {
        let dir = folder.path().join(left.to_string());
        crate::node::copy(&base, &dir);
        let failing = Failing::open(&dir, ChangeStep::RemovalNoted).await;
        failing.left.store(left, Ordering::SeqCst);
        let (tenant, app) = shop();
        let removed = failing.node.node.clone().remove(tenant.clone(), app.clone(), true).await;
        failing.left.store(NEVER, Ordering::SeqCst);
        failing.faults.end();
        let until = Instant::now() + PATIENCE;
        let is_there = loop {
            match failing.node.node.clone().start(tenant.clone(), app.clone()).await {
                Ok(_) => break true,
                Err(problem) if problem.kind == ProblemKind::NotFound => break false,
                Err(problem) => assert!(Instant::now() < until, "{left}: {problem:?}"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        outcomes.insert((removed.is_ok(), is_there));
        let status = if is_there { 200 } else { 404 };
        assert_eq!(failing.node.get("/").await.0, status, "{left}: {removed:?}");
        assert_eq!(dir.join(DATA).join("cart").exists(), is_there, "{left}: {removed:?}");
        failing.node.stop().await;
        let node = TestNode::open(&dir).await;
        assert_eq!(node.get("/").await.0, status, "{left}: {removed:?}, after a restart");
        assert_eq!(dir.join(DATA).join("cart").exists(), is_there, "{left}: {removed:?}, after a restart");
        node.stop().await;
    }
    // All three outcomes occurred: the removal was reported as failed and not made, reported as failed but made, and
    // reported as made.
    assert_eq!(outcomes, BTreeSet::from([(false, true), (false, false), (true, false)]));
}
