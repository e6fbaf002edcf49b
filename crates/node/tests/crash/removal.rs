//! Tests of the removal of apps and tenants that have an unfinished change. Data that must stay is kept completely,
//! data that must be removed is removed, and neither affects a later app of the same name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use isomer_admin::Admin as _;
use isomer_api::{ProblemKind, TenantChange};
use isomer_node::ChangeStep;
use libtest_mimic::Trial;

use crate::migrating_app::{columns, notes, refused, with_migrations, write};
use crate::node::{TestNode, Watch, keep, shop, tenant};
use crate::pending_replacements::{APP, NOTE, killed_at};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        crate::test(
            "removal::removing_an_app_without_data_finishes_its_replacement",
            removing_an_app_without_data_finishes_its_replacement,
        ),
        crate::test(
            "removal::no_app_serves_while_pending_replacements_are_unreadable",
            no_app_serves_while_pending_replacements_are_unreadable,
        ),
        crate::test(
            "removal::started_replacements_of_a_removed_app_are_finished",
            started_replacements_of_a_removed_app_are_finished,
        ),
        crate::test(
            "removal::failed_replacements_are_reported_and_end_with_their_stores",
            failed_replacements_are_reported_and_end_with_their_stores,
        ),
        crate::test(
            "removal::a_failed_removal_is_finished_without_a_restart_and_not_charged",
            a_failed_removal_is_finished_without_a_restart_and_not_charged,
        ),
        crate::test(
            "removal::an_old_removal_does_not_affect_a_new_app_of_the_same_name",
            an_old_removal_does_not_affect_a_new_app_of_the_same_name,
        ),
    ]
}

/// A file in place of a folder, so that no file can be created in the folder or moved to it, even by root.
/// [`InTheWay::remove`] restores the folder.
struct InTheWay {
    folder: PathBuf,
    away: PathBuf,
}

impl InTheWay {
    fn of(folder: &Path) -> Self {
        let (folder, away) = (folder.to_owned(), folder.with_added_extension("away"));
        fs::rename(&folder, &away).unwrap();
        fs::write(&folder, "").unwrap();
        Self { folder, away }
    }

    fn remove(self) {
        fs::remove_file(&self.folder).unwrap();
        fs::rename(&self.away, &self.folder).unwrap();
    }
}

/// Changes the data of a stopped node as if a disk error had interrupted a replacement: the snapshot's folder contains
/// both the old file and the new file of the store.
fn half_switched(dir: &Path) {
    let snapshots = dir.join(APP).join("snapshots");
    let folder = fs::read_dir(snapshots).unwrap().next().unwrap().unwrap().path();
    assert!(folder.join("default.next").exists());
    fs::rename(dir.join(APP).join("sql/default.sqlite"), folder.join("default.sqlite")).unwrap();
}

async fn removing_an_app_without_data_finishes_its_replacement() {
    let folder = tempfile::tempdir().unwrap();
    let dir = killed_at(ChangeStep::Recorded, folder.path()).await;
    half_switched(&dir);
    let obstacle = InTheWay::of(&dir.join(APP).join("sql"));
    let node = TestNode::open(&dir).await;
    let (tenant, app) = shop();
    let remove = || node.node.clone().remove(tenant.clone(), app.clone(), false);
    let problem = refused(remove(), ProblemKind::Conflict).await;
    assert!(problem.title.contains("is not finished"), "{problem:?}");
    obstacle.remove();
    remove().await.unwrap();
    assert!(dir.join(APP).join("sql/default.sqlite").exists() && !dir.join(NOTE).exists());
    node.node.finish_intents().await;
    node.deploy(&with_migrations(3)).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 3));
    node.stop().await;
}

/// The node cannot read which apps have an interrupted replacement, so no app may write to its stores.
async fn no_app_serves_while_pending_replacements_are_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let dir = killed_at(ChangeStep::Recorded, folder.path()).await;
    half_switched(&dir);
    let obstacle = InTheWay::of(&dir.join("takeovers"));
    let node = TestNode::open(&dir).await;
    let query = async || node.get("/query?sql=SELECT%201").await.0;
    assert_eq!(query().await, 503);
    node.node.finish_intents().await;
    assert_eq!(query().await, 503, "the intents cannot be read yet");
    assert!(!dir.join(APP).join("sql/default.sqlite").exists());
    obstacle.remove();
    node.node.finish_intents().await;
    assert_eq!(query().await, 200);
    assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 3));
    node.stop().await;
    // If an admin stops the app while the node cannot read which replacements are pending, the app must stay stopped
    // after the node has finished the replacements.
    let obstacle = InTheWay::of(&dir.join("takeovers"));
    let node = TestNode::open(&dir).await;
    let (tenant, app) = shop();
    node.node.clone().stop(tenant, app).await.unwrap();
    obstacle.remove();
    node.node.finish_intents().await;
    assert_eq!(node.get("/").await.0, 503);
    node.stop().await;
}

/// Earlier versions of the program could remove an app while the replacement of its stores was not finished.
async fn started_replacements_of_a_removed_app_are_finished() {
    let folder = tempfile::tempdir().unwrap();
    let killed = killed_at(ChangeStep::Recorded, folder.path()).await;
    half_switched(&killed);
    for by_start in [true, false] {
        let dir = folder.path().join(format!("start-{by_start}"));
        crate::node::copy(&killed, &dir);
        let note = fs::read(dir.join(NOTE)).unwrap();
        fs::remove_file(dir.join(NOTE)).unwrap();
        let mut node = TestNode::open(&dir).await;
        let (tenant, app) = shop();
        node.node.clone().remove(tenant.clone(), app.clone(), false).await.unwrap();
        fs::write(dir.join(NOTE), note).unwrap();
        if by_start {
            node.stop().await;
            node = TestNode::open(&dir).await;
        } else {
            node.node.finish_intents().await;
        }
        assert!(dir.join(APP).join("sql/default.sqlite").exists() && !dir.join(NOTE).exists(), "{by_start}");
        node.deploy(&with_migrations(3)).await.unwrap();
        assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 3), "{by_start}");
        node.stop().await;
    }
}

async fn failed_replacements_are_reported_and_end_with_their_stores() {
    let folder = tempfile::tempdir().unwrap();
    crate::node::warm(folder.path());
    let data = folder.path().join(APP);
    // The disk fails after the revision is recorded and before the stores are replaced.
    let (is_failing, obstacle) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let watch: Watch = {
        let (sql, is_failing, obstacle) = (data.join("sql"), is_failing.clone(), obstacle.clone());
        Arc::new(move |step| {
            if step == ChangeStep::Recorded && is_failing.swap(false, Ordering::SeqCst) {
                *obstacle.lock().unwrap() = Some(InTheWay::of(&sql));
            }
        })
    };
    let node = TestNode::watched(folder.path(), Some(watch)).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    keep(folder.path());
    write(&node, "second").await;
    let api = || node.node.clone();
    let (tenant, app) = shop();
    let half_deployed = async |migrations: usize| {
        is_failing.store(true, Ordering::SeqCst);
        let deployed = node.deploy(&with_migrations(migrations)).await.unwrap();
        let is_reported = deployed.warnings.iter().any(|warning| warning.contains("could not be replaced yet"));
        assert!(is_reported && folder.path().join(NOTE).exists(), "{:?}", deployed.warnings);
        assert_ne!(node.get("/query?sql=SELECT%201").await.0, 200);
    };
    half_deployed(2).await;
    api().finish_intents().await;
    assert!(folder.path().join(NOTE).exists(), "the disk fails");
    obstacle.lock().unwrap().take().unwrap().remove();
    api().finish_intents().await;
    assert!(!folder.path().join(NOTE).exists());
    // The last load of the app failed, so the node would load it again only after a pause. Stopping and starting the
    // app ends the pause.
    api().stop(tenant.clone(), app.clone()).await.unwrap();
    api().start(tenant.clone(), app.clone()).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (2, 2));
    half_deployed(3).await;
    api().remove(tenant, app, true).await.unwrap();
    assert!(!data.exists() && !folder.path().join(NOTE).exists());
    node.deploy(&with_migrations(1)).await.unwrap();
    assert_eq!((notes(&node).await.len(), columns(&node).await), (1, 1), "the app is new");
    node.stop().await;
}

async fn a_failed_removal_is_finished_without_a_restart_and_not_charged() {
    let folder = tempfile::tempdir().unwrap();
    let node = TestNode::open_warm(folder.path()).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    keep(folder.path());
    let (api, (default, app)) = (|| node.node.clone(), shop());
    let used = async || api().tenant(shop().0).await.unwrap().usage.storage_bytes;
    assert!(used().await > 0);
    for by_deployment in [true, false] {
        let obstacle = InTheWay::of(&folder.path().join("trash"));
        refused(api().remove(default.clone(), app.clone(), true), ProblemKind::Failed).await;
        refused(node.deploy(&with_migrations(1)), ProblemKind::Conflict).await;
        api().finish_intents().await;
        assert!(folder.path().join(APP).exists() && used().await > 0, "the data cannot be moved yet");
        obstacle.remove();
        if by_deployment {
            node.deploy(&with_migrations(2)).await.unwrap();
            assert_eq!((notes(&node).await.len(), columns(&node).await), (1, 2));
        } else {
            api().finish_intents().await;
            assert!(!folder.path().join(APP).exists());
            assert_eq!(used().await, 0);
        }
        assert!(fs::read_dir(folder.path().join("removals")).unwrap().next().is_none());
    }
    // Like the removal of an app, the removal of a tenant is retried.
    api().set_tenant(tenant("guest"), TenantChange::default()).await.unwrap();
    let data = folder.path().join("tenants/guest");
    fs::create_dir_all(data.join("apps/old/kv")).unwrap();
    let obstacle = InTheWay::of(&folder.path().join("trash"));
    refused(api().remove_tenant(tenant("guest")), ProblemKind::Failed).await;
    refused(api().set_tenant(tenant("guest"), TenantChange::default()), ProblemKind::Conflict).await;
    obstacle.remove();
    api().finish_intents().await;
    assert!(!data.exists() && fs::read_dir(folder.path().join("removals")).unwrap().next().is_none());
    node.stop().await;
}

/// An intent to remove an earlier app is carried out once, and does not affect the current app of the same name.
async fn an_old_removal_does_not_affect_a_new_app_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir(&base).unwrap();
    let node = TestNode::open_warm(&base).await;
    node.deploy(&with_migrations(1)).await.unwrap();
    keep(&base);
    let (tenant, app) = shop();
    let obstacle = InTheWay::of(&base.join("trash"));
    refused(node.node.clone().remove(tenant.clone(), app.clone(), true), ProblemKind::Failed).await;
    node.stop().await;
    obstacle.remove();
    // Opening the node again cannot finish the removal either, because the path of the data is not a folder.
    let obstacle = InTheWay::of(&base.join("tenants/default/apps"));
    let node = TestNode::open(&base).await;
    obstacle.remove();
    node.deploy(&with_migrations(1)).await.unwrap();
    write(&node, "to be kept").await;
    node.node.clone().remove(tenant, app, false).await.unwrap();
    for _ in 0..2 {
        node.node.finish_intents().await;
        assert!(base.join(APP).join("sql/default.sqlite").exists());
    }
    node.deploy(&with_migrations(1)).await.unwrap();
    assert_eq!(notes(&node).await, ["first", "to be kept"]);
    node.stop().await;
}
