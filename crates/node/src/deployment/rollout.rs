//! Rollouts. A rollout brings a release into service: by a deployment, a rollback to an earlier revision, a swap of
//! components, or a change of the shape.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use isomer_admin::Caller;
use isomer_api::deploy::DeployMessage;
use isomer_api::{ApiProblem, DeployReport, ProblemKind, Release, RevisionOperation, RevisionOrigin, StoreChange};
use isomer_apps::Package;
use isomer_apps::tenancy::{LaunchSpec, RetiredRevision, StandbyRevision, TenancyError};
use isomer_capabilities::sql::Schema;
use isomer_capabilities::{AppGrants, schemas};
use isomer_display::count;
use isomer_ids::{AppName, ReleaseDigest, StoreName, TenantName};
use isomer_parcel::parts;
use isomer_state::{App, Contents, Deployment, StateError, Taking};
use isomer_telemetry::TraceFragment;

use super::candidate::Candidate;
use super::checks::{check_hosts, check_tree};
use super::outcome_note::outcome_note;
use super::takeover::{self, Takeover};
use super::trace::{DeploymentTrace, operation_name};
use crate::compiler::jobs::CompileReason;
use crate::intents::ChangeTarget;
use crate::locks::AppLock;
use crate::node::Node;
use crate::problems;
use crate::repository::CompiledRelease;
use crate::revisions::changes;
use crate::revisions::record::RevisionRecord;
use crate::revisions::release;
use crate::revisions::snapshots::Snapshot;
use crate::steps::ChangeStep;

/// A rollout in progress: the release to bring into service, and the request for it.
pub(super) struct Rollout {
    pub(super) caller: Caller,
    pub(super) operation: RevisionOperation,
    pub(super) message: Option<DeployMessage>,
    pub(super) tenant: TenantName,
    pub(super) app: AppName,
    pub(super) release: Release,
    pub(super) revision: ReleaseDigest,
    /// The app as it was recorded before the rollout; `None` for a new app.
    pub(super) before: Option<Arc<App>>,
    /// The snapshot to which the stores are to be restored; `None` if the current data stays and only migrations change
    /// it.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) started_at: Instant,
    pub(super) app_lock: Arc<AppLock>,
    /// The number of the operation in the audit log.
    pub(super) action: Option<u64>,
}

/// The warnings that a client gets about a valid release.
struct ReleaseWarnings {
    /// The warnings about the manifest.
    warnings: Vec<String>,
    /// The warnings about times in the manifest that the node shortens to its own limits.
    shortened_times: Vec<String>,
}

/// A tenant, an app, the app's revision, and the package of the revision.
type RevisionKey<'a> = (&'a TenantName, &'a AppName, &'a ReleaseDigest, &'a Arc<Package>);

/// A package, the record of its contents, whether the compiler compiled code for it, and the warnings of the compiler.
/// `None` instead of the warnings if the compiler did not run.
type PreparedPackage = (Arc<Package>, Contents, bool, Option<Vec<String>>);

impl Node {
    /// Runs all steps of a rollout. If a step refuses the revision, removes the files of the revision.
    pub(super) async fn attempt_rollout(self: &Arc<Self>, rollout: Rollout) -> Result<DeployReport, ApiProblem> {
        let trace = DeploymentTrace::begin(rollout.operation, &rollout.revision, rollout.action);
        let (operation, context) = (operation_name(rollout.operation), trace.context());
        let (tenant, app) = (rollout.tenant.clone(), rollout.app.clone());
        let before = rollout.before.as_ref().map(|before| before.current().shape.clone());
        let is_reshaped = before.is_some_and(|shape| shape.as_ref() != Some(&rollout.release.shape));
        let revision = rollout.revision.clone();
        let outcome = self.attempt(revision.clone(), self.run_rollout(rollout, &trace)).await;
        let (fragment, drain) = trace.end(&outcome);
        let is_changed = outcome.as_ref().is_ok_and(|report| !report.unchanged);
        let note = outcome_note(operation, &outcome, self.dir.path());
        let (node, key) = (self.clone(), (tenant.clone(), app.clone()));
        // The outcome of the deployment does not depend on its trace and its line in the log.
        let _noted = self
            .blocking(move || {
                let (tenant, app) = &key;
                if is_reshaped && is_changed {
                    node.shape_traffic.set(tenant, app, node.all_traffic_of(tenant, app));
                }
                // A new app whose deployment failed has no log.
                node.state.app(tenant, app).map_err(problems::of_state)?;
                if let Some((level, text)) = note {
                    node.repository.log_of(tenant, app)?.note(level, Some(context), text);
                }
                Ok(())
            })
            .await;
        if let Some(fragment) = fragment {
            self.store_trace(&tenant, &app, &revision, fragment).await;
        }
        if let Some(drain) = drain {
            // Requests may run for a long time, and must not keep the node in memory.
            let node = Arc::downgrade(self);
            tokio::spawn(async move {
                if let (Some(fragment), Some(node)) = (drain.drained().await, node.upgrade()) {
                    node.store_trace(&tenant, &app, &revision, fragment).await;
                }
            });
        }
        outcome
    }

    async fn store_trace(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        fragment: TraceFragment,
    ) {
        let (node, key) = (self.clone(), (tenant.clone(), app.clone(), revision.clone()));
        // The outcome of the deployment does not depend on its trace.
        let _stored = self.blocking(move || node.repository.store_trace(&key.0, &key.1, &key.2, fragment)).await;
    }

    /// Runs all steps of a rollout. If a step before [`ChangeStep::Recorded`] fails, the app is unchanged.
    async fn run_rollout(
        self: &Arc<Self>,
        rollout: Rollout,
        trace: &DeploymentTrace,
    ) -> Result<DeployReport, ApiProblem> {
        takeover::finish_pending(self, &rollout.tenant, &rollout.app).await?;
        if rollout.before.is_none() {
            self.remove_leftovers(&ChangeTarget::app(&rollout.tenant, &rollout.app)).await?;
        }
        let node = self.clone();
        let checked = move || {
            let mut rollout = rollout;
            node.record_signatures(&mut rollout)?;
            node.check(&rollout).map(|checked| (rollout, checked))
        };
        let (rollout, ReleaseWarnings { warnings, shortened_times }) = self.blocking(checked).await?;
        trace.completed(self, ChangeStep::Checked);
        if let Some(deployed) = self.nothing_to_do(&rollout).await? {
            return Ok(deployed);
        }
        let (package, contents, compiled, compiler_warnings) = self.prepare_package(&rollout).await?;
        // The warnings of the compiler include those of the manifest.
        let mut warnings = compiler_warnings.unwrap_or(warnings);
        warnings.extend(shortened_times);
        trace.completed(self, ChangeStep::Packed);
        let node = self.clone();
        let (revision, release) = (rollout.revision.clone(), rollout.release.clone());
        let granted = release::folders_read(package.grants());
        let key = (rollout.tenant.clone(), rollout.app.clone());
        let (contents, charge) = self
            .blocking(move || {
                let charge = node.charge_of((&key.0, &key.1, &revision), &release, &granted, &contents)?;
                let (revisions, reserve) = (node.dir.revisions(), node.reserve());
                let laid_out = release::lay_out(&revisions, &revision, &release, &granted, &node.blobs, reserve);
                laid_out.map_err(|error| match error.kind() {
                    io::ErrorKind::StorageFull => problems::no_room(reserve),
                    _ => problems::failed(&error),
                })?;
                Ok((contents, charge))
            })
            .await?;
        trace.completed(self, ChangeStep::LaidOut);
        let Rollout {
            caller,
            operation,
            message,
            tenant,
            app,
            release,
            revision,
            before,
            snapshot,
            started_at,
            app_lock,
            action: _,
        } = rollout;
        let shape = release.shape.clone();
        let (spec, inputs) = self.launch_spec(&tenant, &app, &revision, &package).await?;
        let hosts = before.as_ref().map(|before| before.hosts.as_slice()).unwrap_or_default();
        let candidate = Candidate {
            tenant: &tenant,
            app: &app,
            revision: &revision,
            package: &package,
            hosts: release.hosts.as_deref().unwrap_or(hosts),
            snapshot: snapshot.as_ref(),
            spec: &spec,
            inputs,
            trace,
        };
        let started = candidate.run(self).await?;
        trace.completed(self, ChangeStep::Healthy);
        let schemas = schemas::schemas(package.grants(), &spec.place, self.tenancy.stores()).await;
        let schemas = schemas.map_err(|error| ApiProblem::new(ProblemKind::Refused, error.to_string()))?;
        let now_s = now_s();
        // Ignore errors: a damaged earlier release must not prevent the deployment.
        let earlier = match &before {
            Some(before) => self.release_of(&before.current().revision).await.ok(),
            None => None,
        };
        let changes = earlier.map(|earlier| changes::between(&earlier, &release));
        let sent: Vec<_> = parts(&release).map(|part| part.digest.clone()).collect();
        let first_message = before.as_ref().and_then(|before| before.first_message(&revision));
        let first_message = first_message.filter(|first| message.as_ref() != Some(*first)).cloned();
        let deployment = Deployment {
            origin: Some(RevisionOrigin {
                how: operation,
                by: caller.actor(),
                message,
                first_message,
                changes,
                trace: Some(trace.id().to_string()),
            }),
            revision: revision.clone(),
            version: package.version().to_string(),
            shape: Some(shape.clone()),
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
        let previous = before.as_ref().map(|before| before.current().revision.clone());
        let was_stopped = before.as_ref().is_some_and(|before| before.stopped);
        let (hosts, stores) = if snapshot.is_some() || schemas.values().any(|schema| !schema.pending.is_empty()) {
            let (before, spec) = (before.as_deref(), &spec);
            let takeover = Takeover {
                node: self,
                tenant: &tenant,
                app: &app,
                app_lock: &app_lock,
                before,
                spec,
                snapshot,
                taking,
                now_s,
                trace,
            };
            let outcome = takeover.run().await?;
            warnings.extend(outcome.warnings);
            self.resume_if(was_stopped, &tenant, &app);
            trace.retired(self.serve_recorded(key, &outcome.recorded).await?, previous.as_ref());
            drop(outcome.held);
            (outcome.recorded.hosts.clone(), outcome.changes)
        } else {
            let started = match started {
                Some(started) => started,
                None => self.restarted(key).await.map_err(|error| problems::not_started(&error))?,
            };
            let subject = ChangeTarget::app(&tenant, &app);
            let recorded = self.record(&subject, &app_lock, move |node| node.state.take_over(taking)).await?;
            trace.completed(self, ChangeStep::Recorded);
            self.resume_if(was_stopped, &tenant, &app);
            let retired = self.tenancy.take_over(started, &recorded.hosts).map_err(|error| problems::failed(&error))?;
            trace.retired(retired, previous.as_ref());
            (recorded.hosts.clone(), unchanged(schemas))
        };
        trace.completed(self, ChangeStep::TookOver);
        self.uploads.deployed(&tenant, sent.iter());
        Ok(DeployReport {
            revision,
            previous,
            shape: Some(shape),
            unchanged: false,
            hosts,
            compiled,
            took_ms: took_ms(started_at),
            warnings,
            stores,
        })
    }

    /// Returns the launch spec of a revision, and the value that the counter [`inputs`](isomer_apps::Tenancy::inputs)
    /// had before the spec was made. With this value, the take-over detects that the inputs have changed since then.
    async fn launch_spec(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
        package: &Arc<Package>,
    ) -> Result<(LaunchSpec, u64), ApiProblem> {
        let inputs = self.tenancy.inputs(tenant);
        let (node, key) = (self.clone(), (tenant.clone(), app.clone(), revision.clone(), package.clone()));
        let spec = self.blocking(move || node.repository.spec(&key.0, &key.1, &key.2, key.3)).await?;
        Ok((spec, inputs))
    }

    /// Starts a revision with the app's real data, after the revision has passed its health check as a candidate.
    async fn restarted(self: &Arc<Self>, key: RevisionKey<'_>) -> Result<StandbyRevision, TenancyError> {
        let (tenant, app, revision, package) = key;
        let (spec, inputs) =
            self.launch_spec(tenant, app, revision, package).await.map_err(TenancyError::Repository)?;
        Ok(self.tenancy.start_cold(tenant, app, revision, &spec).await?.with_inputs(inputs))
    }

    /// Puts a recorded revision into service. If the revision does not start now, the app's next request loads it.
    async fn serve_recorded(
        self: &Arc<Self>,
        key: RevisionKey<'_>,
        recorded: &App,
    ) -> Result<Option<RetiredRevision>, ApiProblem> {
        let (tenant, app, revision, _) = key;
        let served = match self.restarted(key).await {
            Ok(started) => self.tenancy.take_over(started, &recorded.hosts),
            Err(error) => {
                tracing::warn!(%error, %tenant, %app, "cannot start a recorded revision now; the app's next request starts it");
                self.tenancy.put(tenant, app, revision, &recorded.hosts, recorded.stopped).map(|_| None)
            }
        };
        served.map_err(|error| problems::failed(&error))
    }

    fn resume_if(&self, was_stopped: bool, tenant: &TenantName, app: &AppName) {
        if was_stopped {
            // The tenancy returns an error if it does not know the app. Then there is nothing to resume.
            let _ = self.tenancy.resume(tenant, app);
        }
    }

    pub(super) async fn snapshot_of(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        revision: &ReleaseDigest,
    ) -> Result<Snapshot, ApiProblem> {
        let (node, key) = (self.clone(), (tenant.clone(), app.clone(), revision.clone()));
        self.blocking(move || takeover::snapshot_of(&node.dir, &key.0, &key.1, &key.2)).await
    }

    /// Returns the API problem for an error of the node's state. If a quota is the reason, counts the refusal in the
    /// tenant's usage.
    pub(crate) fn state_refusal(&self, error: StateError) -> ApiProblem {
        match &error {
            StateError::TooManyApps { tenant, .. } => self.tenancy.count_refused_app(tenant),
            StateError::NoRoom { tenant, .. } => self.refuse_storage(tenant),
            _ => {}
        }
        problems::of_state(error)
    }

    /// Checks that all parts of the release are uploaded, that its manifest is valid, that the caller may use its host
    /// names, and that the tenant has the secrets that the app needs. Blocks.
    fn check(&self, rollout: &Rollout) -> Result<ReleaseWarnings, ApiProblem> {
        let Rollout { caller, tenant, app, release, before, .. } = rollout;
        let own = self.state.tenant(tenant).map_err(problems::of_state)?;
        let served = before.as_ref().map(|before| before.hosts.as_slice()).unwrap_or_default();
        // Check first whether the caller may use the host names, because the next check reveals whether a host name
        // belongs to another tenant.
        check_hosts(caller, release.hosts.as_deref().unwrap_or_default(), &own.hosts, served)?;
        let allowed = self.state.check(tenant, app, release.hosts.as_deref());
        allowed.map_err(|error| self.state_refusal(error))?;
        let missing = self.missing_of(caller, release)?.digests;
        if !missing.is_empty() {
            let shown = missing.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let title = format!("the node lacks {} of the release", count(missing.len() as u64, "part"));
            return Err(ApiProblem::new(ProblemKind::Conflict, title).detail(shown).hint("upload these parts first"));
        }
        self.check_kept(caller, release, before.as_deref())?;
        let (manifest, warnings) = release::read_manifest(&release.manifest)?;
        release::check_shape(&manifest, &release.shape)?;
        release::check_folders(&manifest, release)?;
        check_tree(release, &release::folders_read(&AppGrants::from(&manifest)))?;
        release::check_secrets(&manifest, release, tenant, &own.secrets)?;
        Ok(ReleaseWarnings { warnings, shortened_times: self.tenancy.time_limits().warnings(&manifest) })
    }

    /// Handles a release that is already in service, for which only the host names can change. Returns `None` for any
    /// other release.
    async fn nothing_to_do(self: &Arc<Self>, rollout: &Rollout) -> Result<Option<DeployReport>, ApiProblem> {
        let Rollout {
            tenant,
            app,
            release,
            revision,
            message,
            before: Some(before),
            snapshot: None,
            started_at,
            app_lock,
            ..
        } = rollout
        else {
            return Ok(None);
        };
        if before.current().revision != *revision || before.stopped {
            return Ok(None);
        }
        if let Some(message) = message.clone() {
            let key = (tenant.clone(), app.clone());
            let set = move |node: &Self| node.state.set_message(&key.0, &key.1, message);
            self.record(&ChangeTarget::app(tenant, app), app_lock, set).await?;
        }
        let mut hosts = before.hosts.clone();
        if let Some(wanted) = release.hosts.clone() {
            let key = (tenant.clone(), app.clone());
            let set = move |node: &Self| node.state.set_hosts(&key.0, &key.1, wanted);
            let set = self.record(&ChangeTarget::app(tenant, app), app_lock, set).await?;
            hosts.clone_from(&set.hosts);
            self.step(ChangeStep::Recorded);
            self.tenancy.set_hosts(tenant, app, &hosts).map_err(|error| problems::failed(&error))?;
            self.step(ChangeStep::TookOver);
        }
        Ok(Some(DeployReport {
            revision: revision.clone(),
            previous: Some(revision.clone()),
            shape: Some(release.shape.clone()),
            unchanged: true,
            hosts,
            compiled: false,
            took_ms: took_ms(*started_at),
            warnings: Vec::new(),
            stores: Vec::new(),
        }))
    }

    /// Returns the recorded package if it can be started without compiling. Otherwise, compiles the release.
    async fn prepare_package(self: &Arc<Self>, rollout: &Rollout) -> Result<PreparedPackage, ApiProblem> {
        let (node, revision, release) = (self.clone(), rollout.revision.clone(), rollout.release.clone());
        let known = self.blocking(move || node.known(&revision, &release)).await?;
        if let Some((package, contents)) = known {
            return Ok((Arc::new(package), contents, false, None));
        }
        let Rollout { tenant, release, revision, .. } = rollout;
        let compiled = self.repository.compile(tenant, revision, release, CompileReason::Deployment).await?;
        let CompiledRelease { package, contents, compiled, warnings, .. } = &*compiled;
        Ok((package.clone(), contents.clone(), *compiled, Some(warnings.clone())))
    }

    /// Returns the package that the node has recorded for a revision, and the content that the node stores for the
    /// revision. Returns `None` if no app has the revision, or if the package cannot be started without compiling.
    /// Blocks.
    fn known(&self, revision: &ReleaseDigest, release: &Release) -> Result<Option<(Package, Contents)>, ApiProblem> {
        let Some(bytes) = self.state.package(revision).map_err(problems::of_state)? else { return Ok(None) };
        let Some(package) = self.repository.usable_package(&bytes)? else { return Ok(None) };
        let code = package.code().chain(package.files()).map(|key| key.as_str().to_owned()).collect();
        let blobs = parts(release).map(|part| part.digest.clone()).collect();
        Ok(Some((package, Contents { package: bytes, blobs, code })))
    }

    /// Returns the release from which a recorded revision was made.
    pub(crate) async fn release_of(self: &Arc<Self>, revision: &ReleaseDigest) -> Result<Release, ApiProblem> {
        let (node, revision) = (self.clone(), revision.clone());
        self.blocking(move || {
            let kept = node.state.package(&revision).map_err(problems::of_state)?;
            RevisionRecord::read(&kept.ok_or_else(|| ApiProblem::not_found("revision", &revision))?)?.release()
        })
        .await
    }

    /// Returns the recorded app, or `None` if the app does not exist yet.
    pub(super) fn app_before(&self, tenant: &TenantName, app: &AppName) -> Result<Option<Arc<App>>, ApiProblem> {
        self.state.tenant(tenant).map_err(problems::of_state)?;
        Ok(self.state.app(tenant, app).ok())
    }
}

/// Returns reports about the stores that keep a schema that is newer than the revision expects. The reports contain no
/// changes.
fn unchanged(schemas: BTreeMap<StoreName, Schema>) -> Vec<StoreChange> {
    let newer = schemas.into_iter().filter(|(_, schema)| !schema.newer.is_empty());
    newer
        .map(|(store, schema)| StoreChange { store: store.to_string(), newer: schema.newer, ..StoreChange::default() })
        .collect()
}

fn took_ms(started_at: Instant) -> u64 {
    u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
