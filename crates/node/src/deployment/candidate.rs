//! A candidate: a new revision that runs next to the revision in service. It must pass its health check before any of
//! its changes take effect.
//!
//! A candidate may still be refused, so it must not change the app's data:
//!
//! - It writes to copies of the stores, in a folder of its own. Its migrations run on these copies as well.
//! - Folders that components may write are read-only for the candidate at first, because this costs nothing. If the
//!   candidate does not start, or fails its health check, it is started once more with copies of these folders.
//!
//! So a revision with stores or writable folders is started again before it serves, and its state in memory is lost. A
//! revision with neither stores nor writable folders serves with the instances that passed the health check.
//!
//! The copies may use the disk space of the app's older snapshots (see [`snapshots::lend_storage`]). A candidate does
//! not remove these snapshots.
//!
//! | alternative for writable folders | rejected because |
//! | --- | --- |
//! | copy them at the first start | every deployment would copy a folder of uploads, although health checks rarely write |
//! | read-only folders only | health checks that write, and apps that create files when they start, would fail |
//! | an empty folder | the files that an app reads when it starts would be missing |
//! | an overlay file system | this needs root, or a kernel that lets unprivileged users mount one |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{ApiProblem, ProblemKind, Quota};
use isomer_apps::Package;
use isomer_apps::tenancy::{LaunchSpec, StandbyRevision};
use isomer_capabilities::sql::snapshot_name;
use isomer_capabilities::{CandidateFolders, FileCopyError};
use isomer_display::size;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};

use super::health;
use super::trace::DeploymentTrace;
use crate::node::Node;
use crate::problems::{self, not_started};
use crate::revisions::snapshots::{self, Snapshot};
use crate::steps::ChangeStep;
use crate::unique_folder::create_unique_folder;

/// The maximum time to wait for the candidate's stores to close.
const CLOSED_WAIT: Duration = Duration::from_secs(30);

/// The maximum time for copying the app's writable folders.
const COPY_MAX: Duration = Duration::from_secs(60);

/// A new revision to check before it takes over.
pub(super) struct Candidate<'a> {
    pub(super) tenant: &'a TenantName,
    pub(super) app: &'a AppName,
    pub(super) revision: &'a ReleaseDigest,
    pub(super) package: &'a Package,
    /// The host names under which the revision is to serve.
    pub(super) hosts: &'a [HostPattern],
    /// The snapshot to which the take-over will restore the stores; `None` if the app keeps its current data.
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) spec: &'a LaunchSpec,
    /// The value of the counter [`isomer_apps::Tenancy::inputs`] before `spec` was made. If the counter has changed by
    /// the take-over, the app is loaded again with the current inputs.
    pub(super) inputs: u64,
    pub(super) trace: &'a DeploymentTrace,
}

/// The reason why a candidate failed.
enum CandidateError {
    /// The revision does not start, or fails its health check.
    Revision(ApiProblem),
    /// The copies for the candidate cannot be made.
    Preparation(ApiProblem),
}

impl Candidate<'_> {
    /// Starts the candidate and checks its health. Returns the running candidate if it can serve as it is, and `None`
    /// if the revision must be started again before it serves.
    pub(super) async fn run(self, node: &Arc<Node>) -> Result<Option<StandbyRevision>, ApiProblem> {
        if !self.package.grants().can_write() {
            return Ok(Some(self.start_and_check(node, self.spec).await?.with_inputs(self.inputs)));
        }
        let (data, account) = (node.dir.app(self.tenant.as_str(), self.app.as_str()), self.spec.place.storage.clone());
        let kept = self.snapshot.map(|snapshot| snapshot.folder.clone());
        let _loan = node.blocking(move || Ok(snapshots::lend_storage(&data, &account, kept.as_deref()))).await?;
        let reading = match self.attempt(node, CandidateFolders::ReadOnly).await {
            Ok(()) => return Ok(None),
            Err(CandidateError::Preparation(problem)) => return Err(problem),
            Err(CandidateError::Revision(problem)) => problem,
        };
        if self.spec.place.writable_folders(self.package.grants()).is_empty() || reading.quota == Some(Quota::Storage) {
            return Err(reading);
        }
        match self.attempt(node, CandidateFolders::Copied).await {
            Ok(()) => Ok(None),
            Err(CandidateError::Revision(problem)) => Err(problem),
            // The first attempt, with read-only folders, has failed. The candidate might pass its health check with
            // writable copies of the app's folders, but the copies cannot be made, so the failure of the first attempt
            // is reported.
            Err(CandidateError::Preparation(problem)) => {
                let why = problem.detail.unwrap_or(problem.title);
                Err(reading.hint(format!(
                    "the candidate could not write to the app's folders, because they could not be copied: {why}"
                )))
            }
        }
    }

    /// Starts the candidate in a new folder, checks its health, and removes the folder.
    async fn attempt(&self, node: &Arc<Node>, folders: CandidateFolders) -> Result<(), CandidateError> {
        let above = node.dir.trials();
        let made =
            node.blocking(move || create_unique_folder(&above, "").map_err(|error| problems::failed(&error))).await;
        let folder = made.map_err(CandidateError::Preparation)?;
        self.trace.expect(ChangeStep::Started);
        let outcome = self.attempt_in(node, &folder, folders).await;
        self.clear(node, folder).await;
        outcome
    }

    async fn attempt_in(
        &self,
        node: &Arc<Node>,
        folder: &Path,
        folders: CandidateFolders,
    ) -> Result<(), CandidateError> {
        let LaunchSpec { package, place, log, access, tracer, .. } = self.spec;
        let place = place.for_candidate(folder, folders);
        let (log, access, tracer) = (log.clone(), access.clone(), tracer.clone());
        // A candidate serves only the health check, so compiling its probed code is not worthwhile.
        let spec = LaunchSpec { package: package.clone(), place, log, access, tracer, probes: None };
        self.copy_snapshot(node, folder).await.map_err(CandidateError::Preparation)?;
        if folders == CandidateFolders::Copied {
            let (place, package) = (spec.place.clone(), package.clone());
            let copied = node.blocking(move || {
                let copied = place.copy_folders(package.grants(), Instant::now() + COPY_MAX);
                copied.map_err(|error| ApiProblem::new(ProblemKind::Refused, error.to_string()))
            });
            copied.await.map_err(CandidateError::Preparation)?;
        }
        let started = self.start_and_check(node, &spec).await.map_err(CandidateError::Revision)?;
        // Dropping the candidate shuts it down, which blocks for a while.
        let ended = node.blocking(move || {
            drop(started);
            Ok(())
        });
        ended.await.map_err(CandidateError::Preparation)
    }

    /// Copies the stores of the snapshot to the candidate's folder, so that the candidate opens them instead of copies
    /// of the app's current stores.
    async fn copy_snapshot(&self, node: &Arc<Node>, folder: &Path) -> Result<(), ApiProblem> {
        let Some(snapshot) = self.snapshot else { return Ok(()) };
        let (from, to) = (snapshot.folder.clone(), folder.join("sql"));
        let (stores, account) = (snapshot.about.stores.clone(), self.spec.place.storage.clone());
        node.blocking(move || {
            std::fs::create_dir_all(&to).map_err(|error| problems::failed(&error))?;
            for store in stores {
                let name = snapshot_name(&store.store);
                account.copy_file(&from.join(&name), &to.join(&name), || true).map_err(|error| match error {
                    FileCopyError::NoRoom { bytes } => {
                        let title = format!(
                            "a copy of the store `{}` needs {}, which is more than the available storage",
                            store.store,
                            size(bytes)
                        );
                        ApiProblem::quota(Quota::Storage, title)
                    }
                    error => problems::failed(&error),
                })?;
            }
            Ok(())
        })
        .await
    }

    async fn start_and_check(&self, node: &Arc<Node>, spec: &LaunchSpec) -> Result<StandbyRevision, ApiProblem> {
        let Self { tenant, app, revision, package, hosts, .. } = self;
        let started = node.tenancy.start(tenant, app, revision, spec, &|_| {}).await;
        let started = started.map_err(|error| not_started(&error))?;
        self.trace.completed(node, ChangeStep::Started);
        if let Some(path) = package.health() {
            health::check(started.site(), path, hosts).await?;
        }
        Ok(started)
    }

    /// Removes the candidate's folder. If this fails, the folder is removed when the node is opened again.
    async fn clear(&self, node: &Arc<Node>, folder: PathBuf) {
        let stores = node.tenancy.stores();
        if tokio::time::timeout(CLOSED_WAIT, stores.closed(&folder)).await.is_err() {
            tracing::warn!(folder = %folder.display(), "cannot remove the folder of a candidate: its stores are still open");
            return;
        }
        let account = self.spec.place.storage.clone();
        let removed =
            node.blocking(move || snapshots::remove(&folder, &account).map_err(|error| problems::failed(&error)));
        // `problems::failed` has logged the error.
        let _ = removed.await;
    }
}
