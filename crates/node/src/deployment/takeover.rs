//! The take-over of a revision that replaces files of the app's stores: a revision with new migrations, or a revision
//! whose stores are restored to a snapshot.
//!
//! ```text
//! requests held, those in flight finished ─► intent written ─► new files made next to the stores ─► recorded ─► files switched ─► requests continue
//! ```
//!
//! The guarantee of [`crate::steps`] includes stores. Before the step *recorded*, the take-over does not change the
//! current files of the stores, and nothing refers to the new files.
//!
//! The recorded revision names its [`replacement`](isomer_state::Deployment::replacement), and the
//! [intent](crate::intents) names the replacement that was started. After an interruption, the node compares the two
//! names: if they are equal, it finishes the replacement; if not, it undoes the replacement. The node looks for intents
//! when it opens, before the next change of the app ([`finish_pending`]), and every minute. Because there are intents,
//! the node need not search the data of all apps for interrupted replacements.
//!
//! The new files and the folders that contain them are synced before the node's state refers to them. The removal of an
//! intent is synced before the files of its replacement are removed. So if there is an intent for a recorded
//! replacement, but the folder with the new files does not exist, the replacement is already complete.
//!
//! Before an app is removed without its data, the node finishes the app's pending replacement. Earlier versions of the
//! program did not do that. So the node may find a pending replacement of an app that was removed. If the step *files
//! switched* of this replacement had started, the node finishes the replacement although no recorded revision names it,
//! because the app's data must be kept.
//!
//! If recording fails, and the node cannot read whether the change was recorded
//! ([`StateError::Unsettled`](isomer_state::StateError::Unsettled)), requests continue to wait and no file is removed.
//! As soon as the node's state can be read, [`Node::reconcile_later`] finishes or undoes the replacement. If the
//! process exits before that, the next start of the node finishes or undoes the replacement.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, ProblemKind, Quota, StoreChange, StoreSnapshot};
use isomer_apps::tenancy::{LaunchSpec, RequestHold};
use isomer_capabilities::sql::{Replacing, SqlOpenError};
use isomer_capabilities::{CapabilityError, NodeDir, StorageAccount, StorageLoan, schemas};
use isomer_ids::{AppName, ReleaseDigest, TenantName};
use isomer_state::{App, Taking};

use super::trace::DeploymentTrace;
use crate::intents::{ChangeTarget, IntentLog};
use crate::locks::AppLock;
use crate::node::Node;
use crate::problems;
use crate::reconciliation::RecordError;
use crate::replacements::{PendingReplacement, intents, pending, sync_up_to, write_intent};
use crate::revisions::snapshots::{self, SNAPSHOT_AGE_MAX, Snapshot, SnapshotDescription};
use crate::steps::ChangeStep;

/// The maximum time that a take-over waits for requests in flight. Requests that take longer continue, and see the new
/// schema.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The maximum time that a take-over spends on making the stores' new files if the app is in service. The app's
/// requests wait during this time. Otherwise, the maximum is [`UNHELD_MAX`].
const HELD_MAX: Duration = Duration::from_secs(30);

/// The maximum time that a take-over spends on making the stores' new files if the app is not in service, so that no
/// requests wait.
const UNHELD_MAX: Duration = Duration::from_secs(1800);

/// A take-over that replaces files of the app's stores.
pub(super) struct Takeover<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) tenant: &'a TenantName,
    pub(super) app: &'a AppName,
    /// The lock that the caller holds on changes of the app.
    pub(super) app_lock: &'a Arc<AppLock>,
    pub(super) before: Option<&'a App>,
    pub(super) spec: &'a LaunchSpec,
    /// The snapshot to which the stores are restored; `None` if the current data stays and only migrations change it.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) taking: Taking,
    pub(super) now_s: u64,
    pub(super) trace: &'a DeploymentTrace,
}

/// The result of a recorded take-over.
pub(super) struct TakeoverOutcome {
    pub(super) recorded: Arc<App>,
    pub(super) changes: Vec<StoreChange>,
    /// Warnings for the client that requested the take-over.
    pub(super) warnings: Vec<String>,
    /// The hold on the app's requests: they wait until this value is dropped. `None` if the app was not in service.
    pub(super) held: Option<RequestHold>,
}

/// The new files of an app's stores. They replace the current files if the replacement is recorded, and are removed if
/// not.
struct StagedStores {
    /// The node's data directory, which is the topmost folder that is synced.
    top: PathBuf,
    intents: IntentLog,
    subject: ChangeTarget,
    /// The folder with the app's data.
    data: PathBuf,
    /// The folder with the new files.
    folder: PathBuf,
    account: Arc<StorageAccount>,
    replacing: Vec<Replacing>,
}

impl Takeover<'_> {
    /// Runs all steps of the take-over except starting the revision.
    pub(super) async fn run(self) -> Result<TakeoverOutcome, ApiProblem> {
        let Self { node, tenant, app, trace, .. } = self;
        trace.expect(ChangeStep::Held);
        let held = node.tenancy.hold(tenant, app);
        if let Some(held) = &held {
            held.drained(DRAIN_MAX).await;
        }
        trace.completed(node, ChangeStep::Held);
        let data = node.dir.app(tenant.as_str(), app.as_str());
        let id = snapshots::new_id(&data, self.before.and_then(|before| before.current().replacement.as_deref()));
        let (staged, loan) = self.prepare(&id, data).await?;
        let changes = staged.replacing.iter().map(|store| self.change(store)).collect();
        let mut taking = self.taking.clone();
        taking.deployment.replacement = Some(id.clone());
        let recorded = match node.try_record(move |node| node.state.take_over(taking)).await {
            Ok(recorded) => recorded,
            Err(RecordError::Refused(error)) => {
                cleared(node, staged).await;
                return Err(node.state_refusal(error));
            }
            Err(RecordError::Unknown(problem)) => {
                self.reconcile_later(id, staged, (held, loan));
                return Err(problem);
            }
        };
        node.charge(tenant);
        trace.completed(node, ChangeStep::Recorded);
        trace.expect(ChangeStep::Switched);
        let (data, folder, account) = (staged.data.clone(), staged.folder.clone(), staged.account.clone());
        let switched = node.blocking(move || staged.switch().map_err(|error| problems::failed(&error))).await;
        trace.completed(node, ChangeStep::Switched);
        drop(loan);
        let mut warnings = self.sweep(data, folder, account).await;
        if let Err(problem) = switched {
            tracing::error!(%problem, %tenant, %app, "cannot replace the app's stores yet; the node tries again when they are next opened, and every minute");
            let problem = problems::without_folder(problem, node.dir.path());
            warnings.push(format!(
                "warning: the revision took over, but the stores of `{app}` could not be replaced yet ({problem}): requests that need the stores fail \
                 until they are replaced; the node tries again when the stores are next opened, and every minute"
            ));
        }
        Ok(TakeoverOutcome { recorded, changes, warnings, held })
    }

    /// Writes the intent and creates the new files. While the returned [`StorageLoan`] is held, the tenant's storage
    /// quota is raised by the size of the app's older snapshots, so the new files need no space of their own to that
    /// extent. After the loan is dropped, [`Self::sweep`] removes as many of these snapshots as necessary.
    async fn prepare(&self, id: &str, data: PathBuf) -> Result<(StagedStores, StorageLoan), ApiProblem> {
        let Self { node, tenant, app, .. } = self;
        let subject = ChangeTarget::app(tenant, app);
        let (reading, of, text) = (Arc::clone(node), subject.clone(), id.to_owned());
        node.blocking(move || write_intent(&reading.dir, &of, &text).map_err(|error| problems::failed(&error))).await?;
        self.trace.completed(node, ChangeStep::Noted);
        let mut staged = StagedStores {
            top: node.dir.path().to_owned(),
            intents: intents(&node.dir),
            subject,
            folder: snapshots::folder(&data).join(id),
            data,
            account: self.spec.place.storage.clone(),
            replacing: Vec::new(),
        };
        let kept = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let (data, account) = (staged.data.clone(), staged.account.clone());
        let lent = node.blocking(move || Ok(snapshots::lend_storage(&data, &account, kept.as_deref()))).await;
        let done = match lent {
            Ok(loan) => self.stage(&mut staged).await.map(|()| loan),
            Err(problem) => Err(problem),
        };
        match done {
            Ok(loan) => {
                self.trace.completed(node, ChangeStep::Staged);
                Ok((staged, loan))
            }
            // Nothing refers to the new files, so it is safe to remove them.
            Err(problem) => {
                cleared(node, staged).await;
                Err(problem)
            }
        }
    }

    /// Starts a task that waits until the node can read whether the replacement was recorded, then finishes or undoes
    /// the replacement and drops `kept`.
    fn reconcile_later(&self, id: String, staged: StagedStores, kept: impl Send + 'static) {
        let (tenant, app) = (self.tenant.clone(), self.app.clone());
        self.node.reconcile_later(staged.subject.clone(), self.app_lock.clone(), move |node| {
            let recorded = node.state.app(&tenant, &app).ok();
            let is_recorded = recorded.is_some_and(|recorded| recorded.current().replacement.as_ref() == Some(&id));
            let finished = if is_recorded { staged.switch() } else { staged.clear() };
            if let Err(error) = finished {
                tracing::error!(%error, %tenant, %app, "cannot replace the app's stores yet; the node tries again when they are next opened, and every minute");
            }
            if is_recorded {
                // Load the app again, even if the revision did not change, because the app's stores now contain
                // different data.
                let _ = node.tenancy.unload(&tenant, &app);
            }
            kept
        });
    }

    fn change(&self, store: &Replacing) -> StoreChange {
        let restored_to = self.snapshot.as_ref().map(|snapshot| &snapshot.about);
        StoreChange {
            store: store.name().to_owned(),
            migrated: store.schema.pending.clone(),
            newer: store.schema.newer.clone(),
            restored_to: restored_to
                .filter(|about| about.stores.iter().any(|saved| saved.store == store.name()))
                .map(|about| about.taken_at),
            snapshot: store.bytes > 0,
        }
    }

    /// Creates the new files of the app's stores in the folder of `staged`, and syncs them.
    async fn stage(&self, staged: &mut StagedStores) -> Result<(), ApiProblem> {
        let Self { node, spec, .. } = self;
        let serves = self.before.is_some_and(|before| !before.stopped);
        let deadline = Instant::now() + if serves { HELD_MAX } else { UNHELD_MAX };
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.as_path());
        let (grants, stores) = (spec.package.grants(), node.tenancy.stores());
        let replacing = schemas::replace(grants, &spec.place, stores, from, &staged.folder, deadline).await;
        staged.replacing = replacing.map_err(|error| not_replaced(&error, self.tenant, self.app))?;
        let about = SnapshotDescription {
            taken_at: self.now_s,
            before: self.before.map(|before| before.current().revision.clone()),
            stores: staged
                .replacing
                .iter()
                .filter(|store| store.bytes > 0)
                .map(|store| StoreSnapshot { store: store.name().to_owned(), bytes: store.bytes })
                .collect(),
        };
        let (folder, top) = (staged.folder.clone(), staged.top.clone());
        node.blocking(move || {
            fs::create_dir_all(&folder)
                .and_then(|()| snapshots::write_description(&folder, &about))
                .and_then(|()| sync_up_to(&folder, &top))
                .map_err(|error| problems::failed(&error))
        })
        .await
    }

    /// Removes the app's snapshots that exceed the maximum number, the maximum age, or the tenant's storage quota.
    /// Returns a warning for the client if snapshots were removed because of the quota.
    async fn sweep(&self, data: PathBuf, folder: PathBuf, account: Arc<StorageAccount>) -> Vec<String> {
        let now = std::time::SystemTime::now();
        let (intents, subject) = (intents(&self.node.dir), ChangeTarget::app(self.tenant, self.app));
        let from = self.snapshot.as_ref().map(|snapshot| snapshot.folder.clone());
        let swept = self.node.blocking(move || {
            // If no store existed before the take-over, no file was moved to `folder`. Then it is not a snapshot, and
            // is removed.
            if !snapshots::has_description(&folder) && intents.has(&subject).is_ok_and(|is_pending| !is_pending) {
                let _ = snapshots::remove(&folder, &account);
            }
            let swept = snapshots::sweep(&data, &account, now, SNAPSHOT_AGE_MAX).and_then(|_| {
                let kept: Vec<_> = std::iter::once(folder.as_path()).chain(from.as_deref()).collect();
                snapshots::remove_for_space(&data, &account, &kept)
            });
            swept.map_err(|error| problems::failed(&error))
        });
        // `problems::failed` has logged the error. The hourly sweep tries the removal again.
        match swept.await {
            Ok(removed) if !removed.is_empty() => {
                let count = removed.len();
                let which = if count == 1 { "oldest snapshot".to_owned() } else { format!("{count} oldest snapshots") };
                let were = if count == 1 { "was" } else { "were" };
                vec![format!(
                    "warning: the {which} of the app's stores {were} removed to make room for a new snapshot: the tenant's quota `storage` is exhausted"
                )]
            }
            _ => Vec::new(),
        }
    }
}

impl StagedStores {
    /// Replaces the current files of all stores with the new files. If this fails for a store, still replaces the files
    /// of the other stores. The intent then remains, and the node finishes the replacement later. Blocks.
    fn switch(mut self) -> io::Result<()> {
        let switched: Vec<_> = self.replacing.iter_mut().map(Replacing::switch).collect();
        let switched: io::Result<()> = switched.into_iter().collect();
        switched.and_then(|()| sync_up_to(&self.data, &self.top)).and_then(|()| self.intents.forget(&self.subject))
    }

    /// Removes the new files. The stores keep their current files. Blocks.
    fn clear(self) -> io::Result<()> {
        drop(self.replacing);
        snapshots::remove(&self.folder, &self.account).and_then(|()| self.intents.forget(&self.subject))
    }
}

/// Calls [`StagedStores::clear`] on a blocking thread. Ignores a failure, which is logged: the intent remains, so the
/// removal is tried again later.
async fn cleared(node: &Arc<Node>, staged: StagedStores) {
    let _ = node.blocking(move || staged.clear().map_err(|error| problems::failed(&error))).await;
}

/// Returns the newest snapshot of the app's stores that was taken while `revision` was in service.
pub(super) fn snapshot_of(
    dir: &NodeDir,
    tenant: &TenantName,
    app: &AppName,
    revision: &ReleaseDigest,
) -> Result<Snapshot, ApiProblem> {
    snapshots::of(&dir.app(tenant.as_str(), app.as_str()), revision).ok_or_else(|| {
        let title = format!("app `{app}` has no snapshot of the data of revision `{}`", revision.short());
        ApiProblem::new(ProblemKind::NotFound, title)
            .hint(format!("list the snapshots: isomer revisions {app} --tenant {tenant}"))
            .hint("or roll back without `--to-snapshot`: the stores then keep their current data")
    })
}

/// Finishes or undoes the app's pending replacement of stores, if there is one. Must be called before the app is
/// changed.
///
/// # Errors
/// If the replacement can be neither finished nor undone. The problem tells the client what to do.
pub(crate) async fn finish_pending(node: &Arc<Node>, tenant: &TenantName, app: &AppName) -> Result<(), ApiProblem> {
    finish(node, tenant, app).await;
    let (reading, subject) = (node.clone(), ChangeTarget::app(tenant, app));
    let has_intent = node.blocking(move || Ok(intents(&reading.dir).has(&subject).unwrap_or(true)));
    if !has_intent.await? {
        return Ok(());
    }
    let title = format!("an earlier replacement of the stores of `{app}` is not finished");
    let hint = "see the node's log for the reason, and resolve it; then try again, or wait a minute until the node finishes the replacement";
    Err(ApiProblem::new(ProblemKind::Conflict, title).hint(hint))
}

/// Tries to finish or undo the app's pending replacement of stores while the node serves. The caller must hold the
/// app's lock. Logs a failure.
pub(crate) async fn finish(node: &Arc<Node>, tenant: &TenantName, app: &AppName) {
    let (reading, subject) = (node.clone(), ChangeTarget::app(tenant, app));
    let of = subject.clone();
    let found = node.blocking(move || Ok(pending(&reading.dir, &reading.state, &of))).await;
    let finished = match found {
        Ok(Ok(None)) => {
            node.resume_suspended(tenant, app);
            return;
        }
        Ok(Ok(Some(found))) => finish_pending_replacement(node, found, subject).await,
        Ok(Err(error)) => Err(error),
        Err(problem) => Err(io::Error::other(problem.to_string())),
    };
    match finished {
        Ok(()) => {
            tracing::info!(%tenant, %app, "a pending replacement of the app's stores is finished");
            node.resume_suspended(tenant, app);
        }
        Err(error) => {
            tracing::error!(%error, %tenant, %app, "a pending replacement of the app's stores cannot be finished yet")
        }
    }
}

async fn finish_pending_replacement(
    node: &Arc<Node>,
    found: PendingReplacement,
    subject: ChangeTarget,
) -> io::Result<()> {
    let storage = node.storage(&subject.tenant).unwrap_or_else(|| Arc::new(StorageAccount::unlimited()));
    if let PendingReplacement::Recorded { sql, folder } = &found {
        node.tenancy.stores().finish_replacements(sql, &storage, folder).await?;
    }
    let dir = node.dir.clone();
    let rest = node.blocking(move || {
        Ok(match &found {
            PendingReplacement::Recorded { sql, .. } => sync_up_to(sql, dir.path()),
            PendingReplacement::ForNothing { folder } => snapshots::remove(folder, &storage),
            PendingReplacement::Done => Ok(()),
        }
        .and_then(|()| intents(&dir).forget(&subject)))
    });
    rest.await.map_err(|problem| io::Error::other(problem.to_string()))?
}

/// Returns the API problem for an error that prevents the replacement of stores.
fn not_replaced(error: &CapabilityError, tenant: &TenantName, app: &AppName) -> ApiProblem {
    match error {
        CapabilityError::Sql(SqlOpenError::NoRoom { .. }) => ApiProblem::quota(Quota::Storage, error.to_string()),
        CapabilityError::Sql(SqlOpenError::Busy { .. }) => ApiProblem::new(ProblemKind::Conflict, error.to_string())
            .hint(format!("run `isomer stop {app} --tenant {tenant}` before you deploy: no request waits for a stopped app, so its migration may take half an hour")),
        error => {
            let problem = ApiProblem::new(ProblemKind::Refused, error.to_string());
            match std::error::Error::source(error) {
                Some(source) => problem.detail(source.to_string()),
                None => problem,
            }
        }
    }
}
