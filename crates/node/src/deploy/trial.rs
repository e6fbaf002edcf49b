//! A revision on trial: started beside the one that serves, and asked for its health, before anything of it counts.
//!
//! It may write nothing to the app's stores, as it may yet be refused: what it writes goes to copies in a folder of the trial, where
//! its migrations run too. So one that has stores is started anew to serve, and what it had in memory ends with the trial; one that has
//! none serves as it was started.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use isomer_api::{AppName, HostPattern, Problem, Quota, RevisionId, TenantName};
use isomer_capabilities::sql::snapshot_name;
use isomer_manifest::App;

use super::deployment::not_started;
use super::health;
use super::snapshots::{self, Snapshot};
use super::steps::Step;
use crate::host::{Host, problems};
use crate::package::Package;
use crate::tenancy::{Started, Stock};

/// Numbers the trials of this process.
static TRIALS: AtomicU64 = AtomicU64::new(0);

/// How long the stores of a trial may take to close.
const CLOSED_WAIT: Duration = Duration::from_secs(30);

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

impl Trial<'_> {
    /// Starts it and asks for its health. Gives it if it can serve as it is.
    pub(super) async fn carry_out(self, host: &Arc<Host>) -> Result<Option<Started>, Problem> {
        if !has_stores(&self.package.app()) {
            return Ok(Some(self.tried(host, self.stock).await?.made_of(self.inputs)));
        }
        loop {
            let folder = host.dir.trials().join(TRIALS.fetch_add(1, Ordering::Relaxed).to_string());
            let outcome = self.carry_out_in(host, &folder).await;
            self.clear(host, folder).await;
            match outcome {
                Err(problem) if problem.quota == Some(Quota::Storage) && self.make_room(host).await? => {}
                outcome => return outcome.map(|()| None),
            }
        }
    }

    async fn carry_out_in(&self, host: &Arc<Host>, folder: &Path) -> Result<(), Problem> {
        let Stock { package, place, log } = self.stock;
        let stock = Stock { package: package.clone(), place: place.on_trial(folder), log: log.clone() };
        self.bring_snapshot(host, folder).await?;
        let started = self.tried(host, &stock).await?;
        // Taking it down takes a while.
        host.blocking(move || {
            drop(started);
            Ok(())
        })
        .await
    }

    /// Removes the oldest snapshot, where a copy has found no room.
    async fn make_room(&self, host: &Arc<Host>) -> Result<bool, Problem> {
        let (data, account) = (host.dir.app(self.tenant.as_str(), self.app.as_str()), self.stock.place.storage.clone());
        let kept = self.snapshot.map(|snapshot| snapshot.folder.clone());
        host.blocking(move || {
            let removed = snapshots::remove_oldest(&data, &account, kept.as_deref());
            removed.map_err(|error| problems::failed(&error))
        })
        .await
    }

    /// Puts copies of the stores of a snapshot where the trial looks for its own first.
    async fn bring_snapshot(&self, host: &Arc<Host>, folder: &Path) -> Result<(), Problem> {
        let Some(snapshot) = self.snapshot else { return Ok(()) };
        let (from, to) = (snapshot.folder.clone(), folder.join("sql"));
        let (stores, account) = (snapshot.about.stores.clone(), self.stock.place.storage.clone());
        host.blocking(move || {
            let copied = std::fs::create_dir_all(&to).and_then(|()| {
                stores.iter().map(|store| snapshot_name(&store.store)).try_for_each(|name| {
                    std::fs::copy(from.join(&name), to.join(&name))?;
                    account.scan(&to)
                })
            });
            copied.map_err(|error| problems::failed(&error))
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

/// Does some component of the app write to a store?
fn has_stores(app: &App) -> bool {
    app.components.values().any(|component| !component.grants.kv.is_empty() || !component.grants.sql.is_empty())
}
