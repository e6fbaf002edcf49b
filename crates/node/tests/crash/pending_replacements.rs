//! Tests of interrupted replacements of stores: a killed process has left them unfinished, and the next start cannot
//! finish them. Also tests that files of earlier replacements are not mistaken for those of a later one.

use std::fs;
use std::path::{Path, PathBuf};

use isomer_admin::{Admin as _, AppApi as _};
use isomer_api::{AppState, ProblemKind};
use isomer_node::ChangeStep;
use libtest_mimic::Trial;

use crate::child::{Change, kill_after};
use crate::migrating_app::{columns, notes, refused, with_migrations, write};
use crate::node::{TestNode, copy, keep, release, shop};
use crate::store_changes::StoreChange;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        crate::test(
            "pending_replacements::an_app_with_half_replaced_stores_is_refused_until_the_replacement_is_finished",
            an_app_with_half_replaced_stores_is_refused_until_the_replacement_is_finished,
        ),
        crate::test(
            "pending_replacements::obstacles_to_a_replacement_can_be_removed_while_the_node_runs",
            obstacles_to_a_replacement_can_be_removed_while_the_node_runs,
        ),
        crate::test(
            "pending_replacements::a_leftover_intent_of_a_finished_replacement_is_harmless",
            a_leftover_intent_of_a_finished_replacement_is_harmless,
        ),
        crate::test(
            "pending_replacements::leftovers_of_earlier_candidates_are_ignored",
            leftovers_of_earlier_candidates_are_ignored,
        ),
    ]
}

pub(crate) const APP: &str = "tenants/default/apps/shop";
pub(crate) const NOTE: &str = "takeovers/default.shop";

/// Returns the data directory of a node that was killed after `step` of a deployment with migrations.
pub(crate) async fn killed_at(step: ChangeStep, folder: &Path) -> PathBuf {
    let base = folder.join("base");
    fs::create_dir(&base).unwrap();
    let node = TestNode::open_warm(&base).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    write(&node, "under one").await;
    // Compile the code in advance, so that the killed child need not compile.
    let mut other = with_migrations(3);
    other.release.hosts = None;
    node.deploy_as(&shop().0, &"other".parse().unwrap(), &other).await.unwrap();
    keep(&base);
    node.stop().await;
    let dir = folder.join("killed");
    copy(&base, &dir);
    kill_after(Change::Store(StoreChange::Deploy), step, &dir);
    dir
}

async fn an_app_with_half_replaced_stores_is_refused_until_the_replacement_is_finished() {
    for (step, expected) in [(ChangeStep::Staged, (2, 1)), (ChangeStep::Recorded, (2, 3))] {
        let folder = tempfile::tempdir().unwrap();
        let dir = killed_at(step, folder.path()).await;
        assert!(dir.join(NOTE).exists(), "{step:?}");
        // The replacement can be neither finished nor undone: a file is in the place of the folder with the stores, or
        // a folder is in the place of the intent.
        let (there, away) = match step {
            ChangeStep::Recorded => (dir.join(APP).join("sql"), dir.join(APP).join("sql-away")),
            _ => (dir.join(NOTE), dir.join("takeovers/away")),
        };
        let id = fs::read_to_string(dir.join(NOTE)).unwrap();
        fs::rename(&there, &away).unwrap();
        if step == ChangeStep::Recorded {
            fs::write(&there, "").unwrap();
        } else {
            // Puts a folder in the place of the intent's file, so that the intent cannot be read.
            fs::create_dir(&there).unwrap();
            fs::write(there.join("in the way"), &id).unwrap();
        }
        let node = TestNode::open(&dir).await;
        let (tenant, app) = shop();
        assert_eq!(node.get("/query?sql=SELECT%201").await.0, 503, "{step:?}");
        let state = node.node.clone().app(tenant.clone(), app.clone()).await.unwrap().state;
        assert_eq!(state, AppState::Stopped, "{step:?}");
        let title = "an earlier replacement of the stores of `shop` is not finished";
        let problem = refused(node.deploy(&with_migrations(4)), ProblemKind::Conflict).await;
        assert_eq!((problem.title.as_str(), problem.hints.len()), (title, 1), "{step:?}");
        assert!(problem.hints[0].contains("see the node's log"));
        let problem = refused(node.node.clone().start(tenant.clone(), app.clone()), ProblemKind::Conflict).await;
        assert_eq!(problem.title, title, "{step:?}");
        let problem = refused(node.deploy(&release("plain")), ProblemKind::Conflict).await;
        assert_eq!(problem.title, title, "{step:?}: a revision without stores is refused as well");
        // Other apps can be deployed.
        node.deploy_as(&tenant, &"hello".parse().unwrap(), &{
            let mut made = release("hello");
            made.release.hosts = Some(vec!["hello.example".parse().unwrap()]);
            made
        })
        .await
        .unwrap();
        node.stop().await;
        if step == ChangeStep::Recorded {
            fs::remove_file(&there).unwrap()
        } else {
            fs::remove_dir_all(&there).unwrap()
        }
        fs::rename(&away, &there).unwrap();
        let node = TestNode::open(&dir).await;
        assert_eq!((notes(&node).await.len(), columns(&node).await), expected, "{step:?}, finished");
        assert!(!dir.join(NOTE).exists() && fs::read_dir(dir.join("takeovers")).unwrap().next().is_none());
        write(&node, "later").await;
        node.deploy(&with_migrations(4)).await.unwrap();
        assert_eq!(
            (notes(&node).await.len(), columns(&node).await),
            (3, 4),
            "{step:?}: a later deployment replaces the stores"
        );
        node.stop().await;
    }
}

async fn obstacles_to_a_replacement_can_be_removed_while_the_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let killed = killed_at(ChangeStep::Recorded, folder.path()).await;
    for by_start in [true, false] {
        let dir = folder.path().join(format!("start-{by_start}"));
        copy(&killed, &dir);
        let (sql, away) = (dir.join(APP).join("sql"), dir.join(APP).join("sql-away"));
        fs::rename(&sql, &away).unwrap();
        fs::write(&sql, "").unwrap();
        let node = TestNode::open(&dir).await;
        assert_eq!(node.get("/query?sql=SELECT%201").await.0, 503);
        let (tenant, app) = shop();
        refused(node.node.clone().start(tenant.clone(), app.clone()), ProblemKind::Conflict).await;
        fs::remove_file(&sql).unwrap();
        fs::rename(&away, &sql).unwrap();
        if by_start {
            node.node.clone().start(tenant, app).await.unwrap();
            assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 3));
            write(&node, "later").await;
        } else {
            node.deploy(&with_migrations(4)).await.unwrap();
            assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 4));
        }
        assert!(!dir.join(NOTE).exists());
        node.stop().await;
    }
}

/// A power failure undid the removal of the intent, but not the removal of the snapshot.
async fn a_leftover_intent_of_a_finished_replacement_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let dir = killed_at(ChangeStep::Recorded, folder.path()).await;
    let id = fs::read_to_string(dir.join(NOTE)).unwrap();
    let node = TestNode::open(&dir).await;
    assert_eq!(columns(&node).await, 3);
    write(&node, "later").await;
    node.stop().await;
    for is_snapshot_there in [true, false] {
        fs::write(dir.join(NOTE), &id).unwrap();
        if !is_snapshot_there {
            fs::remove_dir_all(dir.join(APP).join("snapshots").join(&id)).unwrap();
        }
        let node = TestNode::open(&dir).await;
        assert_eq!((notes(&node).await.len(), columns(&node).await), (3, 3), "snapshot: {is_snapshot_there}");
        assert!(!dir.join(NOTE).exists());
        node.stop().await;
    }
}

async fn leftovers_of_earlier_candidates_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    // Create folders of earlier candidates, as a process leaves them if it cannot remove them.
    for number in 0..500 {
        let sql = folder.path().join("trials").join(number.to_string()).join("sql");
        fs::create_dir_all(&sql).unwrap();
        fs::write(sql.join("default.sqlite"), "of another app").unwrap();
    }
    node.deploy(&with_migrations(2).healthy_at("/check/insert/note/c2")).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (1, 2));
    node.stop().await;
    TestNode::open(folder.path()).await.stop().await;
    assert!(
        fs::read_dir(folder.path().join("trials")).into_iter().flatten().next().is_none(),
        "a start removes the folder"
    );
}
