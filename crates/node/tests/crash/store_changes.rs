//! Deployments and rollbacks that replace the stores of an app.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use isomer_admin::{Admin as _, Caller};
use isomer_api::RollbackRequest;
use isomer_node::ChangeStep;
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::child::{Change, Steps, kill_after};
use crate::migrating_app::{columns, data, notes, same, with_migrations, write};
use crate::node::{TestNode, copy, keep, shop};

pub(crate) fn tests() -> Vec<Trial> {
    let base = Arc::new(OnceLock::new());
    let test = |change: StoreChange| {
        let base = base.clone();
        let name = format!("store_changes::a_kill_at_any_step_leaves_the_old_or_the_new_store::{change:?}");
        crate::test(name, move || async move { a_kill_leaves_the_old_or_the_new_store(change, &base).await })
    };
    StoreChange::ALL.into_iter().map(test).collect()
}

/// The change during which the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreChange {
    Deploy,
    RollbackToSnapshot,
}

impl StoreChange {
    pub(crate) const ALL: [Self; 2] = [Self::Deploy, Self::RollbackToSnapshot];

    pub(crate) async fn run(self, node: &TestNode) {
        match self {
            Self::Deploy => drop(node.deploy(&with_migrations(3)).await.unwrap()),
            Self::RollbackToSnapshot => {
                let ((tenant, app), to) =
                    (shop(), RollbackRequest { revision: None, to_snapshot: true, message: None });
                node.node.clone().rollback(Caller::Node, tenant, app, to).await.unwrap();
            }
        }
    }

    /// Returns the number of notes, and the number of columns, after the change.
    fn outcome(self) -> (usize, usize) {
        match self {
            Self::Deploy => (3, 3),
            Self::RollbackToSnapshot => (2, 1),
        }
    }
}

/// The data directory that the changes start from.
struct Base {
    folder: TempDir,
    path: PathBuf,
    /// The data of the app.
    data: BTreeMap<String, Vec<u8>>,
}

impl Base {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        fs::create_dir(&base).unwrap();
        let node = TestNode::open_warm(&base).await;
        node.deploy(&with_migrations(1)).await.unwrap();
        write(&node, "under one").await;
        node.deploy(&with_migrations(2)).await.unwrap();
        write(&node, "under two").await;
        node.deploy_as(&shop().0, &"other".parse().unwrap(), &{
            let mut made = with_migrations(3);
            made.release.hosts = None;
            made
        })
        .await
        .unwrap();
        keep(&base);
        node.stop().await;
        let data = data(&base);
        Self { folder, path: base, data }
    }
}

/// Kills a process after every step of the change.
async fn a_kill_leaves_the_old_or_the_new_store(change: StoreChange, base: &OnceLock<Base>) {
    let base =
        tokio::task::block_in_place(|| base.get_or_init(|| tokio::runtime::Handle::current().block_on(Base::make())));
    let (folder, before, base) = (base.folder.path(), &base.data, base.path.as_path());
    let steps = steps_of(change, base, &folder.join(format!("{change:?}"))).await;
    for step in [
        ChangeStep::Held,
        ChangeStep::Noted,
        ChangeStep::Staged,
        ChangeStep::Recorded,
        ChangeStep::Switched,
        ChangeStep::TookOver,
    ] {
        assert!(steps.contains(&step), "{change:?}: {steps:?}");
    }
    let counts = steps.iter().position(|step| *step == ChangeStep::Recorded).unwrap();
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{change:?} killed at {step:?}");
        let dir = folder.join(format!("{change:?}-{step:?}"));
        copy(base, &dir);
        kill_after(Change::Store(change), *step, &dir);
        let node = TestNode::open(&dir).await;
        let is_new = index >= counts;
        let expected = if is_new { change.outcome() } else { (3, 2) };
        if !is_new {
            same(before, &data(&dir), &at);
        }
        assert_eq!((notes(&node).await.len(), columns(&node).await), expected, "{at}");
        write(&node, "later").await;
        node.stop().await;
        let node = TestNode::open(&dir).await;
        assert_eq!(notes(&node).await.len(), expected.0 + 1, "{at}, after another start");
        if !is_new {
            change.run(&node).await;
            assert_eq!(columns(&node).await, change.outcome().1, "{at}: the change can be made again");
        }
        node.stop().await;
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// Returns the steps of the change, in order.
async fn steps_of(change: StoreChange, base: &Path, dir: &Path) -> Vec<ChangeStep> {
    copy(base, dir);
    let steps = Steps::default();
    let node = TestNode::watched(dir, Some(steps.watch())).await;
    change.run(&node).await;
    assert_eq!((notes(&node).await.len(), columns(&node).await), change.outcome());
    node.stop().await;
    steps.take()
}
