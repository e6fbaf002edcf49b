//! A revision on trial: started beside the one that serves, and asked for its health, before anything of it counts.
//!
//! It may write nothing that is the app's, as it may yet be refused. What it writes to stores goes to copies in a folder of the trial, where
//! its migrations run too. Folders that components may write are only read at first, which costs nothing; if the revision does not start so, or
//! is not healthy, it is tried once more with copies of them. So one that has stores or such folders is started anew to serve, and what it had
//! in memory ends with the trial; one that has none serves as it was started.
//!
//! Copies may take the room of the app's older snapshots (see [`snapshots::lend`]), which stay where they are: the trial itself removes
//! nothing.
//!
//! | rejected for folders | why |
//! | --- | --- |
//! | copies from the beginning | a folder of uploads would be copied at each deployment, for checks of health that rarely write |
//! | only to be read | checks of health that write, and apps that make files when they start, would have to be written for the platform |
//! | an empty folder | what is read there at the start is missing |
//! | an overlay of the file system | needs root, or a kernel that lets users mount |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_api::{AppName, HostPattern, Problem, ProblemKind, Quota, RevisionId, TenantName};
use isomer_capabilities::sql::snapshot_name;
use isomer_capabilities::{CandidateFolders, FileCopyError};
use isomer_display::size;

use super::deployment::not_started;
use super::fresh::fresh_folder;
use super::health;
use super::snapshots::{self, Snapshot};
use super::steps::Step;
use crate::host::{Host, problems};
use crate::package::Package;
use crate::tenancy::{Started, Stock};

/// How long the stores of a trial may take to close.
const CLOSED_WAIT: Duration = Duration::from_secs(30);

/// How long copying an app's folders may take.
const COPY_MAX: Duration = Duration::from_secs(60);

/// What is tried out.
pub(super) struct Trial<'a> {
    pub(super) tenant: &'a TenantName,
    pub(super) app: &'a AppName,
    pub(super) revision: &'a RevisionId,
    pub(super) package: &'a Package,
    /// The host names that it would serve under.
    pub(super) hosts: &'a [HostPattern],
    /// What its stores are to be like; absent leaves them as they are.
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) stock: &'a Stock,
    /// See [`crate::tenancy::Tenancy::inputs`].
    pub(super) inputs: u64,
}

/// Why a trial failed.
enum Failed {
    /// The revision does not start, or is not healthy.
    Revision(Problem),
    /// What it needs cannot be made.
    Preparation(Problem),
}

impl Trial<'_> {
    /// Starts it and asks for its health. Gives it if it can serve as it is.
    pub(super) async fn carry_out(self, host: &Arc<Host>) -> Result<Option<Started>, Problem> {
        if !self.package.grants().can_write() {
            return Ok(Some(self.tried(host, self.stock).await?.made_of(self.inputs)));
        }
        let (data, account) = (host.dir.app(self.tenant.as_str(), self.app.as_str()), self.stock.place.storage.clone());
        let kept = self.snapshot.map(|snapshot| snapshot.folder.clone());
        let _loan = host.blocking(move || Ok(snapshots::lend(&data, &account, kept.as_deref()))).await?;
        let reading = match self.attempt(host, CandidateFolders::ReadOnly).await {
            Ok(()) => return Ok(None),
            Err(Failed::Preparation(problem)) => return Err(problem),
            Err(Failed::Revision(problem)) => problem,
        };
        if self.stock.place.writable_folders(self.package.grants()).is_empty() || reading.quota == Some(Quota::Storage)
        {
            return Err(reading);
        }
        match self.attempt(host, CandidateFolders::Copied).await {
            Ok(()) => Ok(None),
            Err(Failed::Revision(problem)) => Err(problem),
            // It may be healthy with folders that it can write; that cannot be tried.
            Err(Failed::Preparation(problem)) => {
                let why = problem.detail.unwrap_or(problem.title);
                Err(reading.hint(format!("while it was tried out it could only read the app's folders, as no copy could be made of them: {why}")))
            }
        }
    }

    /// Tries it out in a new folder, of which nothing is left afterwards.
    async fn attempt(&self, host: &Arc<Host>, folders: CandidateFolders) -> Result<(), Failed> {
        let above = host.dir.trials();
        let made = host.blocking(move || fresh_folder(&above, "").map_err(|error| problems::failed(&error))).await;
        let folder = made.map_err(Failed::Preparation)?;
        let outcome = self.attempt_in(host, &folder, folders).await;
        self.clear(host, folder).await;
        outcome
    }

    async fn attempt_in(&self, host: &Arc<Host>, folder: &Path, folders: CandidateFolders) -> Result<(), Failed> {
        let Stock { package, place, log, access } = self.stock;
        let place = place.for_candidate(folder, folders);
        let stock = Stock { package: package.clone(), place, log: log.clone(), access: access.clone() };
        self.bring_snapshot(host, folder).await.map_err(Failed::Preparation)?;
        if folders == CandidateFolders::Copied {
            let (place, package) = (stock.place.clone(), package.clone());
            let copied = host.blocking(move || {
                let copied = place.copy_folders(package.grants(), Instant::now() + COPY_MAX);
                copied.map_err(|error| Problem::new(ProblemKind::Refused, error.to_string()))
            });
            copied.await.map_err(Failed::Preparation)?;
        }
        let started = self.tried(host, &stock).await.map_err(Failed::Revision)?;
        // Taking it down takes a while.
        let ended = host.blocking(move || {
            drop(started);
            Ok(())
        });
        ended.await.map_err(Failed::Preparation)
    }

    /// Puts copies of the stores of a snapshot where the trial looks for its own first.
    async fn bring_snapshot(&self, host: &Arc<Host>, folder: &Path) -> Result<(), Problem> {
        let Some(snapshot) = self.snapshot else { return Ok(()) };
        let (from, to) = (snapshot.folder.clone(), folder.join("sql"));
        let (stores, account) = (snapshot.about.stores.clone(), self.stock.place.storage.clone());
        host.blocking(move || {
            std::fs::create_dir_all(&to).map_err(|error| problems::failed(&error))?;
            for store in stores {
                let name = snapshot_name(&store.store);
                account.copy_file(&from.join(&name), &to.join(&name), || true).map_err(|error| match error {
                    FileCopyError::NoRoom { bytes } => {
                        let title =
                            format!("a copy of the store `{}` takes {}, which are not left", store.store, size(bytes));
                        Problem::quota(Quota::Storage, title)
                    }
                    error => problems::failed(&error),
                })?;
            }
            Ok(())
        })
        .await
    }

    async fn tried(&self, host: &Arc<Host>, stock: &Stock) -> Result<Started, Problem> {
        let Self { tenant, app, revision, package, hosts, .. } = self;
        let started = host.tenancy.start(tenant, app, revision, stock, &|_| {}).await;
        let started = started.map_err(|error| not_started(&error))?;
        host.step(Step::Started);
        if let Some(path) = package.health() {
            health::check(started.site(), path, hosts).await?;
        }
        Ok(started)
    }

    /// Removes what it wrote. What cannot be removed goes when the node starts again.
    async fn clear(&self, host: &Arc<Host>, folder: PathBuf) {
        let stores = host.tenancy.stores();
        if tokio::time::timeout(CLOSED_WAIT, stores.closed(&folder)).await.is_err() {
            tracing::warn!(folder = %folder.display(), "stores of a revision that was tried out are still open");
            return;
        }
        let account = self.stock.place.storage.clone();
        let removed =
            host.blocking(move || snapshots::remove(&folder, &account).map_err(|error| problems::failed(&error)));
        // It is in the log.
        let _ = removed.await;
    }
}
