//! Background tasks of a node: finishing interrupted changes of data every minute, and removing unreferenced files
//! every hour.

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

/// The interval between two attempts to finish interrupted changes of data.
const FINISH_EVERY: Duration = Duration::from_secs(60);

/// The maximum number of interrupted removals and take-overs that are finished concurrently. They run concurrently,
/// because a removal may wait for requests in flight.
const FINISHED_AT_ONCE_MAX: usize = 16;

/// The interval between two removals of unreferenced files.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Starts the background tasks of a node. The tasks end after the node is dropped.
pub(crate) fn begin(node: &Arc<Node>) {
    tokio::spawn(finish_often(Arc::downgrade(node)));
    tokio::spawn(sweep_often(Arc::downgrade(node)));
}

impl Node {
    /// Tries to finish interrupted removals of data and interrupted replacements of stores. Resumes apps that were
    /// suspended because of such a replacement. The node calls this method every minute. Failures are logged.
    pub async fn finish_intents(self: &Arc<Self>) {
        let node = self.clone();
        let pending = self.blocking(move || {
            let mut taken_over = node.suspended.all();
            match replacements::unfinished(&node.dir) {
                Ok(unfinished) => taken_over.extend(unfinished),
                Err(error) => {
                    tracing::error!(%error, "cannot read which replacements of stores are unfinished; the node tries again later")
                }
            }
            Ok((removals::pending(&node.dir), taken_over))
        });
        let (removed, taken_over) = pending.await.unwrap_or_default();
        stream::iter(removed).for_each_concurrent(FINISHED_AT_ONCE_MAX, |subject| self.try_removal(subject)).await;
        let finish = |(tenant, app): (TenantName, AppName)| async move {
            // If the app is locked, skip it: the change that holds the lock finishes the replacement.
            let Ok(_lock) = self.app_locks.begin(&tenant, &app) else { return };
            takeover::finish(self, &tenant, &app).await;
        };
        stream::iter(taken_over).for_each_concurrent(FINISHED_AT_ONCE_MAX, finish).await;
    }

    async fn try_removal(self: &Arc<Self>, subject: ChangeTarget) {
        // Lock the target, because a removal must not run during another change of the target.
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
            tracing::error!(%problem, "cannot finish the removal of {subject}; the node tries again later");
        }
    }

    /// Removes parts, compiled code and files that no recorded revision refers to and that were last used more than
    /// `unused_max` ago. Also removes outdated snapshots, and empties the trash. The node calls this method every hour.
    ///
    /// # Errors
    /// If the node's state cannot be read, or if a part or a file cannot be read or removed.
    pub async fn sweep(self: &Arc<Self>, unused_max: Duration) -> Result<SweepCounts, ApiProblem> {
        let node = self.clone();
        self.blocking(move || {
            let (repository, now) = (&node.repository, SystemTime::now());
            let swept = sweep::sweep(&node.state, &node.blobs, &repository.cache, &node.dir, now, unused_max);
            // The trash may contain data whose removal failed earlier.
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
            // If the app is locked, skip it: the change that holds the lock removes the app's outdated snapshots.
            let Ok(_lock) = self.app_locks.begin(&tenant, &app) else { continue };
            let swept = snapshots::sweep(&data, &resources.storage, now, snapshots::SNAPSHOT_AGE_MAX);
            if let Err(error) = swept {
                tracing::warn!(%tenant, %app, %error, "cannot remove old snapshots");
            }
        }
    }
}

/// Finishes interrupted changes every minute, and tries to empty the trash until it is empty. The interrupted changes
/// are skipped the first time, because opening the node has just tried to finish them. The trash is emptied here, and
/// not while the node opens, because emptying it may take a long time.
async fn finish_often(node: Weak<Node>) {
    let mut tick = tokio::time::interval(FINISH_EVERY);
    let mut is_clean = false;
    for round in 0_u64.. {
        // The first call returns immediately.
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
    // An interval's first tick is immediate. The first sweep must not run while the node is still starting, so it waits
    // for the second tick.
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
