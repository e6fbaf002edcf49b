//! Carrying out a deployment, a return to an earlier revision, a swap of components: all three bring a release into service.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use isomer_admin::Caller;
use isomer_api::deploy::Message;
use isomer_api::{
    AppName, Deployed, How, Origin, Part, Problem, ProblemKind, Quota, Release, RevisionId, Rollback, StoreChange,
    Swap, TenantName,
};
use isomer_capabilities::sql::{Schema, SqlOpenError};
use isomer_capabilities::{AppGrants, CapabilityError, schemas};
use isomer_manifest::StoreName;
use isomer_state::{App, Contents, Deployment, StateError, Taking};

use super::checks::{check_hosts, check_size, check_tree};
use super::flights::Asker;
use super::kept::Kept;
use super::snapshots::Snapshot;
use super::steps::{Changing, Step};
use super::takeover::{self, Takeover};
use super::trial::Trial;
use super::{changes, child, release};
use crate::host::shelf::Compiled;
use crate::host::{Host, problems};
use crate::notes::Subject;
use crate::package::Package;
use crate::parts::PartsError;
use crate::tenancy::{Started, Stock, TenancyError};

/// The most bytes of all parts of a release together.
pub const RELEASE_BYTES_MAX: u64 = 1 << 30;

/// A release on its way into service.
struct Bringing {
    caller: Caller,
    how: How,
    message: Option<Message>,
    tenant: TenantName,
    app: AppName,
    release: Release,
    revision: RevisionId,
    /// What serves now.
    before: Option<Arc<App>>,
    /// What its stores are to be like; absent leaves them as they are, but for migrations.
    snapshot: Option<Snapshot>,
    begun: Instant,
    changing: Arc<Changing>,
}

/// What is to be warned of in a release that can be deployed.
struct Checked {
    /// By its manifest alone.
    warnings: Vec<String>,
    /// Times that are longer than the node allows.
    cut: Vec<String>,
}

/// What is started: tenant, app, revision and its package.
type Key<'a> = (&'a TenantName, &'a AppName, &'a RevisionId, &'a Arc<Package>);

/// A package, what is to be kept of it, whether something was compiled for it, and what a child warned of if it needed one.
type Packed = (Arc<Package>, Contents, bool, Option<Vec<String>>);

impl Host {
    pub(crate) async fn deploy_release(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        mut release: Release,
    ) -> Result<Deployed, Problem> {
        let begun = Instant::now();
        let changing = Arc::new(self.busy.begin(&tenant, &app)?);
        check_size(&release)?;
        let before = self.app_before(&tenant, &app)?;
        let revision = release::revision_of(&release);
        let (how, message) = (How::Deploy, release.message.take());
        self.bring(Bringing {
            caller,
            how,
            message,
            tenant,
            app,
            release,
            revision,
            before,
            snapshot: None,
            begun,
            changing,
        })
        .await
    }

    pub(crate) async fn roll_back(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: Rollback,
    ) -> Result<Deployed, Problem> {
        let begun = Instant::now();
        let changing = Arc::new(self.busy.begin(&tenant, &app)?);
        let before = self.state.app(&tenant, &app).map_err(problems::of_state)?;
        let hint = format!("`isomer revisions {app} --tenant {tenant}` lists those that there are");
        let revision = match rollback.revision {
            Some(revision) if before.history.iter().any(|one| one.revision == revision) => revision,
            Some(revision) => {
                let known = format!("app `{app}` of tenant `{tenant}` has no revision `{}`", revision.short());
                return Err(Problem::new(ProblemKind::NotFound, known).hint(hint));
            }
            None => {
                let none = || format!("app `{app}` of tenant `{tenant}` has no earlier revision");
                let earlier = before.history.get(1);
                earlier.ok_or_else(|| Problem::new(ProblemKind::NotFound, none()).hint(hint))?.revision.clone()
            }
        };
        let snapshot = match rollback.to_snapshot {
            true => Some(self.snapshot_of(&tenant, &app, &revision).await?),
            false => None,
        };
        let release = self.release_of(&revision).await?;
        let said = before.history.iter().find(|one| one.revision == revision).and_then(|one| one.origin.as_ref());
        let message = rollback.message.or_else(|| said?.message.clone());
        self.bring(Bringing {
            caller,
            how: How::Rollback,
            message,
            tenant,
            app,
            release,
            revision,
            before: Some(before),
            snapshot,
            begun,
            changing,
        })
        .await
    }

    pub(crate) async fn swap_components(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: Swap,
    ) -> Result<Deployed, Problem> {
        let begun = Instant::now();
        let changing = Arc::new(self.busy.begin(&tenant, &app)?);
        let before = self.state.app(&tenant, &app).map_err(problems::of_state)?;
        let mut release = self.release_of(&before.current().revision).await?;
        for (name, part) in swap.components {
            let Some(component) = release.components.get_mut(&name) else {
                let known = release.components.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let title = format!("app `{app}` of tenant `{tenant}` has no component `{name}`");
                return Err(Problem::new(ProblemKind::NotFound, title).hint(format!("it has {known}")));
            };
            *component = part;
        }
        check_size(&release)?;
        let revision = release::revision_of(&release);
        self.bring(Bringing {
            caller,
            how: How::Swap,
            message: swap.message,
            tenant,
            app,
            release,
            revision,
            before: Some(before),
            snapshot: None,
            begun,
            changing,
        })
        .await
    }

    /// All steps, and after one that refuses the revision, removing what was laid out for it.
    async fn bring(self: &Arc<Self>, bringing: Bringing) -> Result<Deployed, Problem> {
        self.attempt(bringing.revision.clone(), self.carry_out(bringing)).await
    }

    /// All steps. Nothing of the app has changed if one of them fails.
    async fn carry_out(self: &Arc<Self>, bringing: Bringing) -> Result<Deployed, Problem> {
        takeover::finish_first(self, &bringing.tenant, &bringing.app).await?;
        if bringing.before.is_none() {
            self.make_way(&Subject::app(&bringing.tenant, &bringing.app)).await?;
        }
        let host = self.clone();
        let checked = move || host.check(&bringing).map(|checked| (bringing, checked));
        let (bringing, Checked { warnings, cut }) = self.blocking(checked).await?;
        self.step(Step::Checked);
        if let Some(deployed) = self.nothing_to_do(&bringing).await? {
            return Ok(deployed);
        }
        let (package, contents, compiled, told) = self.packed(&bringing).await?;
        // A child has told these and more.
        let mut warnings = told.unwrap_or(warnings);
        warnings.extend(cut);
        self.step(Step::Packed);
        let host = self.clone();
        let (revision, release) = (bringing.revision.clone(), bringing.release.clone());
        let granted = release::folders_read(package.grants());
        let key = (bringing.tenant.clone(), bringing.app.clone());
        let (contents, charge) = self
            .blocking(move || {
                let charge = host.charge_of((&key.0, &key.1, &revision), &release, &granted, &contents)?;
                let (revisions, reserve) = (host.dir.revisions(), host.reserve());
                let laid_out = release::lay_out(&revisions, &revision, &release, &granted, &host.blobs, reserve);
                laid_out.map_err(|error| match error.kind() {
                    io::ErrorKind::StorageFull => problems::no_room(reserve),
                    _ => problems::failed(&error),
                })?;
                Ok((contents, charge))
            })
            .await?;
        self.step(Step::LaidOut);
        let Bringing { caller, how, message, tenant, app, release, revision, before, snapshot, begun, changing } =
            bringing;
        let (stock, inputs) = self.stock_of(&tenant, &app, &revision, &package).await?;
        let hosts = before.as_ref().map(|before| before.hosts.as_slice()).unwrap_or_default();
        let trial = Trial {
            tenant: &tenant,
            app: &app,
            revision: &revision,
            package: &package,
            hosts: release.hosts.as_deref().unwrap_or(hosts),
            snapshot: snapshot.as_ref(),
            stock: &stock,
            inputs,
        };
        let started = trial.carry_out(self).await?;
        self.step(Step::Healthy);
        let schemas = schemas::schemas(package.grants(), &stock.place, self.tenancy.stores()).await;
        let schemas = schemas.map_err(|error| Problem::new(ProblemKind::Refused, error.to_string()))?;
        let now_s = now_s();
        // What served before may be damaged, which is no reason to keep it.
        let earlier = match &before {
            Some(before) => self.release_of(&before.current().revision).await.ok(),
            None => None,
        };
        let changes = earlier.map(|earlier| changes::between(&earlier, &release));
        let sent: Vec<_> = parts(&release).map(|part| part.digest.clone()).collect();
        let deployment = Deployment {
            origin: Some(Origin { how, by: caller.actor(), message, changes }),
            revision: revision.clone(),
            version: package.version().to_string(),
            deployed_at: now_s,
            replacement: None,
        };
        let taking = Taking {
            tenant: tenant.clone(),
            app: app.clone(),
            secrets: release::secrets_needed(&package.grants().secrets, &release).map(ToOwned::to_owned).collect(),
            hosts: release.hosts,
            deployment,
            contents,
            charge: charge.bytes,
            charges_max: charge.all_max,
        };
        let key = (&tenant, &app, &revision, &package);
        let was_stopped = before.as_ref().is_some_and(|before| before.stopped);
        let (hosts, stores) = if snapshot.is_some() || schemas.values().any(|schema| !schema.pending.is_empty()) {
            let (before, stock) = (before.as_deref(), &stock);
            let takeover = Takeover {
                host: self,
                tenant: &tenant,
                app: &app,
                changing: &changing,
                before,
                stock,
                snapshot,
                taking,
                now_s,
            };
            let taken = takeover.carry_out().await?;
            warnings.extend(taken.warnings);
            self.resume_if(was_stopped, &tenant, &app);
            self.serve_recorded(key, &taken.recorded).await?;
            drop(taken.held);
            (taken.recorded.hosts.clone(), taken.changes)
        } else {
            let started = match started {
                Some(started) => started,
                None => self.started_anew(key).await.map_err(|error| not_started(&error))?,
            };
            let subject = Subject::app(&tenant, &app);
            let recorded = self.record(&subject, &changing, move |host| host.state.take_over(taking)).await?;
            self.step(Step::Recorded);
            self.resume_if(was_stopped, &tenant, &app);
            self.tenancy.take_over(started, &recorded.hosts).map_err(|error| problems::failed(&error))?;
            (recorded.hosts.clone(), unchanged(schemas))
        };
        self.step(Step::TookOver);
        self.uploads.deployed(&tenant, sent.iter());
        Ok(Deployed {
            revision,
            previous: before.map(|before| before.current().revision.clone()),
            hosts,
            compiled,
            took_ms: took_ms(begun),
            warnings,
            stores,
        })
    }

    /// What a revision is started from, and the [inputs](crate::tenancy::Tenancy::inputs) that it was read with.
    async fn stock_of(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        revision: &RevisionId,
        package: &Arc<Package>,
    ) -> Result<(Stock, u64), Problem> {
        let inputs = self.tenancy.inputs(tenant);
        let (host, key) = (self.clone(), (tenant.clone(), app.clone(), revision.clone(), package.clone()));
        let stock = self.blocking(move || host.shelf.stock(&key.0, &key.1, &key.2, key.3)).await?;
        Ok((stock, inputs))
    }

    /// Starts a revision that was tried out, to serve.
    async fn started_anew(self: &Arc<Self>, key: Key<'_>) -> Result<Started, TenancyError> {
        let (tenant, app, revision, package) = key;
        let (stock, inputs) = self.stock_of(tenant, app, revision, package).await.map_err(TenancyError::Stock)?;
        Ok(self.tenancy.start_cold(tenant, app, revision, &stock).await?.made_of(inputs))
    }

    /// Has a revision serve that is recorded. One that does not start now is loaded by its next request.
    async fn serve_recorded(self: &Arc<Self>, key: Key<'_>, recorded: &App) -> Result<(), Problem> {
        let (tenant, app, revision, _) = key;
        let served = match self.started_anew(key).await {
            Ok(started) => self.tenancy.take_over(started, &recorded.hosts).map(drop),
            Err(error) => {
                tracing::warn!(%error, %tenant, %app, "a revision that took over is started by its next request only");
                self.tenancy.put(tenant, app, revision, &recorded.hosts, recorded.stopped)
            }
        };
        served.map_err(|error| problems::failed(&error))
    }

    fn resume_if(&self, was_stopped: bool, tenant: &TenantName, app: &AppName) {
        if was_stopped {
            // It may be that no such app is in memory: then there is nothing to resume.
            let _ = self.tenancy.resume(tenant, app);
        }
    }

    async fn snapshot_of(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        revision: &RevisionId,
    ) -> Result<Snapshot, Problem> {
        let (host, key) = (self.clone(), (tenant.clone(), app.clone(), revision.clone()));
        self.blocking(move || takeover::snapshot_of(&host.dir, &key.0, &key.1, &key.2)).await
    }

    /// Why the state does not take an app, for an admin. A quota that is reached so counts like the others.
    pub(crate) fn refused_by_state(&self, error: StateError) -> Problem {
        match &error {
            StateError::TooManyApps { tenant, .. } => self.tenancy.refuse_app(tenant),
            StateError::NoRoom { tenant, .. } => self.refuse_storage(tenant),
            _ => {}
        }
        problems::of_state(error)
    }

    /// The release is all there, its manifest can be read, and the tenant has what it needs. Blocks.
    fn check(&self, bringing: &Bringing) -> Result<Checked, Problem> {
        let Bringing { caller, tenant, app, release, before, .. } = bringing;
        let own = self.state.tenant(tenant).map_err(problems::of_state)?;
        let served = before.as_ref().map(|before| before.hosts.as_slice()).unwrap_or_default();
        // Before it is looked who else has one: that is not for every tenant to know.
        check_hosts(caller, release.hosts.as_deref().unwrap_or_default(), &own.hosts, served)?;
        let allowed = self.state.check(tenant, app, release.hosts.as_deref());
        allowed.map_err(|error| self.refused_by_state(error))?;
        let missing = self.missing_of(caller, release)?.digests;
        if !missing.is_empty() {
            let shown = missing.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let title = format!("the node lacks {} parts of the release", missing.len());
            return Err(Problem::new(ProblemKind::Conflict, title).detail(shown).hint("send them first"));
        }
        self.check_kept(caller, release, before.as_deref())?;
        let (manifest, warnings) = child::read_manifest(&release.manifest)?;
        release::check_folders(&manifest, release)?;
        check_tree(release, &release::folders_read(&AppGrants::from(&manifest)))?;
        release::check_secrets(&manifest, release, tenant, &own.secrets)?;
        Ok(Checked { warnings, cut: self.tenancy.times_max().warnings(&manifest) })
    }

    /// The same release once more, with the same host names or others: what serves is as it should be.
    async fn nothing_to_do(self: &Arc<Self>, bringing: &Bringing) -> Result<Option<Deployed>, Problem> {
        let Bringing { tenant, app, release, revision, before: Some(before), snapshot: None, begun, changing, .. } =
            bringing
        else {
            return Ok(None);
        };
        if before.current().revision != *revision || before.stopped {
            return Ok(None);
        }
        let mut hosts = before.hosts.clone();
        if let Some(wanted) = release.hosts.clone() {
            let key = (tenant.clone(), app.clone());
            let set = move |host: &Self| host.state.set_hosts(&key.0, &key.1, wanted);
            let set = self.record(&Subject::app(tenant, app), changing, set).await?;
            hosts.clone_from(&set.hosts);
            self.step(Step::Recorded);
            self.tenancy.set_hosts(tenant, app, &hosts).map_err(|error| problems::failed(&error))?;
            self.step(Step::TookOver);
        }
        Ok(Some(Deployed {
            revision: revision.clone(),
            previous: Some(revision.clone()),
            hosts,
            compiled: false,
            took_ms: took_ms(*begun),
            warnings: Vec::new(),
            stores: Vec::new(),
        }))
    }

    /// The package: the one that is kept, if its code is, or a new one.
    async fn packed(self: &Arc<Self>, bringing: &Bringing) -> Result<Packed, Problem> {
        let (host, revision, release) = (self.clone(), bringing.revision.clone(), bringing.release.clone());
        let known = self.blocking(move || host.known(&revision, &release)).await?;
        if let Some((package, contents)) = known {
            return Ok((Arc::new(package), contents, false, None));
        }
        let Bringing { tenant, release, revision, .. } = bringing;
        let compiled = self.shelf.compile(tenant, revision, release, Asker::Deployment).await?;
        let Compiled { package, contents, compiled, warnings } = &*compiled;
        Ok((package.clone(), contents.clone(), *compiled, Some(warnings.clone())))
    }

    /// What is kept of a revision that some app has, if it can be started as it is. Blocks.
    fn known(&self, revision: &RevisionId, release: &Release) -> Result<Option<(Package, Contents)>, Problem> {
        let Some(bytes) = self.state.package(revision).map_err(problems::of_state)? else { return Ok(None) };
        let Some(package) = self.shelf.usable(&bytes)? else { return Ok(None) };
        let code = package.code().map(|key| key.as_str().to_owned()).collect();
        let blobs = parts(release).map(|part| part.digest.clone()).collect();
        Ok(Some((package, Contents { package: bytes, blobs, code })))
    }

    /// The release that a revision was made from.
    pub(crate) async fn release_of(self: &Arc<Self>, revision: &RevisionId) -> Result<Release, Problem> {
        let (host, revision) = (self.clone(), revision.clone());
        self.blocking(move || {
            let kept = host.state.package(&revision).map_err(problems::of_state)?;
            Kept::read(&kept.ok_or_else(|| Problem::not_found("revision", &revision))?)?.release()
        })
        .await
    }

    /// `None` for an app that is not there yet, of a tenant that is.
    fn app_before(&self, tenant: &TenantName, app: &AppName) -> Result<Option<Arc<App>>, Problem> {
        self.state.tenant(tenant).map_err(problems::of_state)?;
        Ok(self.state.app(tenant, app).ok())
    }
}

/// Why a revision did not start, for an admin.
pub(super) fn not_started(error: &TenancyError) -> Problem {
    match error {
        TenancyError::Revision(error) => child::refused_by(error),
        TenancyError::Stock(problem) => problem.clone(),
        TenancyError::Parts(PartsError::Capability(error @ CapabilityError::Sql(SqlOpenError::NoRoom { .. }))) => {
            Problem::quota(Quota::Storage, error.to_string())
        }
        error => {
            let problem = Problem::new(ProblemKind::Refused, error.to_string());
            match std::error::Error::source(error) {
                Some(source) => problem.detail(source.to_string()),
                None => problem,
            }
        }
    }
}

/// Stores whose schema is newer than the revision's.
fn unchanged(schemas: BTreeMap<StoreName, Schema>) -> Vec<StoreChange> {
    let newer = schemas.into_iter().filter(|(_, schema)| !schema.newer.is_empty());
    newer
        .map(|(store, schema)| StoreChange { store: store.to_string(), newer: schema.newer, ..StoreChange::default() })
        .collect()
}

pub(super) fn parts(release: &Release) -> impl Iterator<Item = &Part> {
    release.components.values().chain(release.files.values())
}

fn took_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
