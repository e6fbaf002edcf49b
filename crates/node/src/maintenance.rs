//! Background tasks of a node: every minute it finishes pending changes of data, and every hour it removes files to
//! which nothing refers.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::stream;
use isomer_api::ApiProblem;
use isomer_ids::{AppName, TenantName};

use crate::deployment::takeover;
use crate::intents::ChangeTarget;
use crate::node::Node;
use crate::revisions::sweep::{self, SweepCounts, UNUSED_MAX};
use crate::revisions::{release, snapshots};
use crate::{problems, removals, replacements, trash};

/// The interval at which pending changes of data are tried again.
const FINISH_EVERY: Duration = Duration::from_secs(60);

/// The maximum number of removals and take-overs that are tried at the same time, so that one that has to wait does not
/// delay the others.
const FINISHED_AT_ONCE_MAX: usize = 16;

/// The interval at which unreferenced files are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Starts the background tasks. They end when the node is dropped.
pub(crate) fn begin(node: &Arc<Node>) {
    tokio::spawn(finish_often(Arc::downgrade(node)));
    tokio::spawn(sweep_often(Arc::downgrade(node)));
}

impl Node {
    /// Tries again to finish pending removals of data, and take-overs that have left stores half replaced. Apps that
    /// were suspended because of such a take-over are then resumed. The node itself runs this every minute. Failures
    /// are logged.
    pub async fn finish_intents(self: &Arc<Self>) {
        let node = self.clone();
        let pending = self.blocking(move || {
            let mut taken_over = node.suspended.all();
            match replacements::unfinished(&node.dir) {
                Ok(unfinished) => taken_over.extend(unfinished),
                Err(error) => {
                    tracing::error!(%error, "pending replacements of stores cannot be read; this is tried again later")
                }
            }
            Ok((removals::pending(&node.dir), taken_over))
        });
        let (removed, taken_over) = pending.await.unwrap_or_default();
        stream::iter(removed).for_each_concurrent(FINISHED_AT_ONCE_MAX, |subject| self.try_removal(subject)).await;
        let finish = |(tenant, app): (TenantName, AppName)| async move {
            // If the app is locked, the change that holds the lock finishes the pending replacement.
            let Ok(_lock) = self.app_locks.begin(&tenant, &app) else { return };
            takeover::finish(self, &tenant, &app).await;
        };
        stream::iter(taken_over).for_each_concurrent(FINISHED_AT_ONCE_MAX, finish).await;
    }

    async fn try_removal(self: &Arc<Self>, subject: ChangeTarget) {
        // The lock prevents other changes of the same target.
        let done = match &subject.app {
            Some(app) => match self.app_locks.begin(&subject.tenant, app) {
                Ok(_lock) => self.finish_removal(&subject).await,
                Err(_) => return,
            },
            None => match self.tenant_locks.take(&subject.tenant).await {
                Ok(_lock) => self.finish_removal(&subject).await,
                Err(_) => return,
            },
        };
        if let Err(problem) = done {
            tracing::error!(%problem, "the removal of {subject} cannot be finished; it is tried again later");
        }
    }

    /// Removes parts, code and files to which no app's revision refers and that were not used for `unused_max`. The
    /// node itself runs this every hour.
    ///
    /// # Errors
    /// When something cannot be read or removed.
    pub async fn sweep(self: &Arc<Self>, unused_max: Duration) -> Result<SweepCounts, ApiProblem> {
        let node = self.clone();
        self.blocking(move || {
            let (repository, now) = (&node.repository, SystemTime::now());
            let swept = sweep::sweep(&node.state, &node.blobs, &repository.cache, &node.dir, now, unused_max);
            // This also removes what could not be removed earlier.
            trash::clean(&node.dir);
            release::sweep_unfinished(&node.dir.revisions(), now, unused_max);
            node.sweep_snapshots(now);
            swept.map_err(|error| problems::failed(&*error))
        })
        .await
    }

    fn sweep_snapshots(&self, now: SystemTime) {
        for (tenant, app, _) in self.state.apps() {
            let data = self.dir.app(tenant.as_str(), app.as_str());
            let Some(resources) = self.resources.get(&tenant) else { continue };
            if !snapshots::folder(&data).exists() {
                continue;
            }
            // If the app is locked, the change that holds the lock removes the app's old snapshots.
            let Ok(_lock) = self.app_locks.begin(&tenant, &app) else { continue };
            let swept = snapshots::sweep(&data, &resources.storage, now, snapshots::SNAPSHOT_AGE_MAX);
            if let Err(error) = swept {
                tracing::warn!(%tenant, %app, %error, "old snapshots cannot be removed");
            }
        }
    }
}

/// Finishes intents every minute, and tries to empty the trash until it is empty. The first round skips the intents,
/// because opening the node has just tried them. The trash is not emptied at the opening, because that may take long.
async fn finish_often(node: Weak<Node>) {
    let mut tick = tokio::time::interval(FINISH_EVERY);
    let mut is_clean = false;
    for round in 0_u64.. {
        // The first tick completes at once.
        tick.tick().await;
        let Some(node) = node.upgrade() else { return };
        if round > 0 {
            node.finish_intents().await;
        }
        if !is_clean {
            let dir = node.dir.clone();
            is_clean = node.blocking(move || Ok(!trash::clean(&dir))).await.unwrap_or(false);
        }
    }
}

async fn sweep_often(node: Weak<Node>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    // The first tick completes at once, while the node is still starting.
    tick.tick().await;
    loop {
        tick.tick().await;
        let Some(node) = node.upgrade() else { return };
        match node.sweep(UNUSED_MAX).await {
            Ok(swept) if swept == SweepCounts::default() => {}
            Ok(swept) => tracing::info!(?swept, "removed unreferenced files"),
            Err(problem) => tracing::warn!(%problem, "cannot remove unreferenced files"),
        }
    }
}
