//! Removal of the data of apps and tenants. An intent is written to disk before a removal starts, so that the removal
//! is completed even if the process is killed.
//!
//! An [intent](crate::intents) to remove data is a file in `removals/` of the data directory. If the tenant or app of
//! an intent is still recorded, the removal was not recorded, so the intent is obsolete. If the tenant or app is not
//! recorded, its data is removed. The node carries out intents when it opens, before it creates a tenant or app of the
//! same name, and every minute. (An alternative is to remove all data whose tenant is not recorded. It was rejected: a
//! node that was started with a wrong state would remove all data.)
//!
//! Data is removed in two steps. The first step renames the data's folder into `trash/`, which is fast. The second step
//! removes the files, which may take a long time. Nothing refers to files in the trash, so a failure of the second step
//! blocks nothing. It is logged, and this process and later ones retry the step until the trash is empty
//! ([`clean`](crate::trash::clean)).

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_capabilities::NodeDir;
use isomer_state::NodeState;

use crate::intents::{ChangeTarget, IntentLog};
use crate::node::Node;
use crate::problems;
use crate::replacements;
use crate::steps::ChangeStep;
use crate::trash::{discard, move_to_trash};

/// The maximum time that a removal in the background waits for requests in flight. If they take longer, the removal is
/// tried again later.
const CLOSED_MAX: Duration = Duration::from_secs(10);

impl Node {
    /// Finishes the target's interrupted removal, if there is one. The caller must hold the target's lock.
    ///
    /// # Errors
    /// If the removal cannot be finished. In this case, the intent remains.
    pub(super) async fn finish_removal(self: &Arc<Self>, subject: &ChangeTarget) -> Result<(), ApiProblem> {
        let (node, of) = (self.clone(), subject.clone());
        let is_gone = self.blocking(move || {
            let (intents, failed) = (intents(&node.dir), |error: io::Error| problems::failed(&error));
            if !intents.has(&of).map_err(failed)? {
                return Ok(false);
            }
            let is_gone = !is_recorded(&node.state, &of);
            if !is_gone {
                intents.forget(&of).map_err(failed)?;
            }
            Ok(is_gone)
        });
        if is_gone.await? { self.remove_data(subject, CLOSED_MAX).await } else { Ok(()) }
    }

    /// Removes the data that a removed tenant or app of the same name has left. Must be called before a tenant or app
    /// is created.
    ///
    /// # Errors
    /// If the data cannot be removed.
    pub(crate) async fn remove_leftovers(self: &Arc<Self>, subject: &ChangeTarget) -> Result<(), ApiProblem> {
        self.finish_removal(subject).await.map_err(|problem| {
            tracing::error!(%problem, "the data of an earlier {subject} cannot be removed");
            let title = format!("the data of an earlier {subject} still exists and cannot be removed");
            ApiProblem::new(ProblemKind::Conflict, title)
                .hint("see the node's log for the reason; the node tries to remove the data every minute")
        })
    }

    /// Removes the data of a tenant or app that is no longer recorded, and removes the intent. Waits at most `patience`
    /// for requests in flight that use the target's stores, including requests to the admin API.
    ///
    /// # Errors
    /// If requests use the stores for longer than `patience`, or if the data cannot be moved to the trash. In both
    /// cases, the intent remains.
    pub(super) async fn remove_data(
        self: &Arc<Self>,
        subject: &ChangeTarget,
        patience: Duration,
    ) -> Result<(), ApiProblem> {
        let (data, stores) = (subject.data(&self.dir), self.tenancy.stores());
        let unused = async {
            self.data_leases.released(subject).await;
            stores.closed(&data).await;
        };
        if tokio::time::timeout(patience, unused).await.is_err() {
            let title = format!("requests of an earlier {subject} still use the stores");
            return Err(ApiProblem::new(ProblemKind::Conflict, title));
        }
        let (node, of) = (self.clone(), subject.clone());
        let moved = self.blocking(move || {
            // Close the logs and traces only here, because requests in flight may have written to them until now.
            node.repository.close_logs_and_traces(&of.tenant, of.app.as_ref());
            let moved = set_aside(&node.dir, &of).map_err(|error| problems::failed(&error))?;
            if let Some(storage) = node.storage(&of.tenant) {
                storage.forget(&of.data(&node.dir));
            }
            // The target's intents to replace stores are obsolete, because the stores were removed. Errors are ignored:
            // an intent that remains is later found to be obsolete.
            let _ = replacements::forget_all(&node.dir, &of);
            Ok(moved)
        });
        let moved = moved.await?;
        if tokio::time::timeout(patience, stores.forget(&data)).await.is_err() {
            tracing::error!("a store of an earlier {subject} is still in use, although all stores were closed");
        }
        self.step(ChangeStep::DataSetAside);
        self.blocking(move || {
            discard(moved);
            Ok(())
        })
        .await
    }
}

/// Returns the intents to remove data.
pub(crate) fn intents(dir: &NodeDir) -> IntentLog {
    IntentLog::new(dir.path().join("removals"))
}

/// Returns the targets of all intents to remove data. If they cannot be read, logs the error and returns an empty list.
/// Blocks.
pub(super) fn pending(dir: &NodeDir) -> Vec<ChangeTarget> {
    intents(dir).all().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read which removals are unfinished; the node tries again later");
        Vec::new()
    })
}

/// Carries out the intents of an earlier process to remove data: moves the data to the trash. The data must not be
/// open. Failures are logged, and the removals are tried again later. Blocks.
pub(super) fn recover(dir: &NodeDir, state: &NodeState) {
    for subject in pending(dir) {
        let done = match is_recorded(state, &subject) {
            true => intents(dir).forget(&subject),
            false => set_aside(dir, &subject).map(drop),
        };
        if let Err(error) = done {
            tracing::error!(%error, "cannot finish the removal of {subject}; the node tries again later");
        }
    }
}

/// Moves the target's data to the trash, then removes the intent. Returns the new path of the data, which the caller
/// must pass to [`discard`]; `None` if there was no data.
///
/// # Errors
/// If the data cannot be moved. In this case, the intent remains.
fn set_aside(dir: &NodeDir, subject: &ChangeTarget) -> io::Result<Option<PathBuf>> {
    let data = subject.data(dir);
    let moved = move_to_trash(dir, &data)?;
    if let Some(above) = data.parent().filter(|above| above.is_dir()) {
        File::open(above)?.sync_all()?;
    }
    intents(dir).forget(subject)?;
    Ok(moved)
}

fn is_recorded(state: &NodeState, subject: &ChangeTarget) -> bool {
    match &subject.app {
        Some(app) => state.app(&subject.tenant, app).is_ok(),
        None => state.tenant(&subject.tenant).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use isomer_api::TenantChange;
    use isomer_disk::tree;
    use isomer_ids::{AppName, TenantName};

    use super::*;
    use crate::trash::clean;

    #[test]
    fn data_is_removed_only_with_its_app_or_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir::open(folder.path()).unwrap();
        let state = NodeState::open(&dir.state()).unwrap();
        let (here, removed): (TenantName, TenantName) = ("here".parse().unwrap(), "removed".parse().unwrap());
        state.set_tenant(&here, TenantChange::default()).unwrap();
        let app: AppName = "shop".parse().unwrap();
        for tenant in [&here, &removed] {
            fs::create_dir_all(dir.app(tenant.as_str(), "shop").join("kv")).unwrap();
            fs::create_dir_all(dir.app(tenant.as_str(), "other").join("kv")).unwrap();
        }
        for subject in [ChangeTarget::tenant(&here), ChangeTarget::app(&here, &app), ChangeTarget::tenant(&removed)] {
            intents(&dir).write(&subject, "").unwrap();
        }
        recover(&dir, &state);
        assert!(dir.app("here", "other").is_dir(), "the tenant exists");
        assert!(!dir.app("here", "shop").exists(), "the app does not exist");
        assert!(!dir.tenant("removed").exists());
        assert_eq!(pending(&dir), []);
        assert_eq!(fs::read_dir(dir.trash()).unwrap().count(), 2);
        assert!(!clean(&dir));
        assert_eq!(fs::read_dir(dir.trash()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_removal_is_retried_and_blocks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = NodeDir::open(folder.path()).unwrap();
        let state = NodeState::open(&dir.state()).unwrap();
        let subjects = ["first", "second"].map(|name| ChangeTarget::tenant(&name.parse().unwrap()));
        for subject in &subjects {
            fs::create_dir_all(subject.data(&dir).join("apps/shop/kv")).unwrap();
            intents(&dir).write(subject, "").unwrap();
        }
        // Nothing can be moved into the trash if the trash is a file instead of a folder.
        fs::remove_dir(dir.trash()).unwrap();
        fs::write(dir.trash(), "").unwrap();
        recover(&dir, &state);
        assert_eq!(pending(&dir), subjects);
        assert!(clean(&dir), "the trash is not empty");
        assert!(dir.tenant("first").exists() && dir.tenant("second").exists());
        fs::remove_file(dir.trash()).unwrap();
        fs::create_dir(dir.trash()).unwrap();
        // The target `first` has no data any more, so its removal succeeds.
        tree::remove(&dir.tenant("first")).unwrap();
        recover(&dir, &state);
        assert!(!dir.tenant("second").exists());
        assert!(!clean(&dir));
        assert_eq!(pending(&dir), []);
    }
}
