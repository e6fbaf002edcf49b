//! Operations on apps: listing, stopping, starting and removing them, and reading their logs.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use isomer_admin::{Caller, LogLines, UploadBody};
use isomer_api::{ApiProblem, AppInfo, AppState, LogQuery, ProblemKind, RevisionInfo};
use isomer_ids::{AppName, Digest, ReleaseDigest, TenantName};
use isomer_observe::AppLogError;
use isomer_state::{App, StateError};

use crate::deployment::takeover;
use crate::intents::ChangeTarget;
use crate::node::Node;
use crate::revisions::snapshots;
use crate::steps::ChangeStep;
use crate::{problems, removals};

impl Node {
    pub(crate) fn all_apps(&self, tenant: Option<&TenantName>) -> Result<Vec<AppInfo>, ApiProblem> {
        let Some(tenant) = tenant else {
            let apps = self.state.apps().into_iter();
            return Ok(apps.map(|(tenant, name, app)| self.app_info(&tenant, &name, &app)).collect());
        };
        self.state.tenant(tenant).map_err(problems::of_state)?;
        let apps = self.state.apps_of(tenant).into_iter();
        Ok(apps.map(|(name, app)| self.app_info(tenant, &name, &app)).collect())
    }

    pub(crate) fn one_app(&self, tenant: &TenantName, name: &AppName) -> Result<AppInfo, ApiProblem> {
        let app = self.state.app(tenant, name).map_err(problems::of_state)?;
        Ok(self.app_info(tenant, name, &app))
    }

    /// Returns the plan of the app's current revision.
    pub(crate) async fn plan_of(
        self: &Arc<Self>,
        tenant: TenantName,
        name: AppName,
    ) -> Result<serde_json::Value, ApiProblem> {
        let node = self.clone();
        let wanted = (tenant.clone(), name);
        let read = move || node.state.app(&wanted.0, &wanted.1).map_err(problems::of_state);
        let app = self.blocking(read).await?;
        self.repository.plan_of(&tenant, &app.current().revision).await
    }

    pub(crate) fn revisions_of(&self, tenant: &TenantName, name: &AppName) -> Result<Vec<RevisionInfo>, ApiProblem> {
        let app = self.state.app(tenant, name).map_err(problems::of_state)?;
        let snapshots = snapshots::all(&self.dir.app(tenant.as_str(), name.as_str()));
        let of = |revision: &ReleaseDigest| {
            snapshots.iter().find(|snapshot| snapshot.about.before.as_ref() == Some(revision))
        };
        let info = |(index, one): (usize, &isomer_state::Deployment)| RevisionInfo {
            revision: one.revision.clone(),
            version: one.version.clone(),
            shape: one.shape.clone(),
            deployed_at: one.deployed_at,
            current: index == 0,
            origin: one.origin.clone(),
            snapshot: of(&one.revision).map(snapshots::Snapshot::info),
        };
        Ok(app.history.iter().enumerate().map(info).collect())
    }

    pub(crate) async fn store_blob(
        self: &Arc<Self>,
        caller: Caller,
        digest: Digest,
        mut body: UploadBody,
    ) -> Result<(), ApiProblem> {
        let mut pending = caller.tenant().map(|tenant| self.uploads.begin(tenant)).transpose()?;
        let (blobs, wanted) = (self.blobs.clone(), digest.clone());
        let mut upload = self.blocking(move || blobs.upload(&wanted).map_err(problems::of_blob)).await?;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| {
                ApiProblem::new(ProblemKind::BadRequest, "the upload was interrupted").detail(error.to_string())
            })?;
            if let Some(pending) = &mut pending {
                pending.add(bytes.len() as u64)?;
            }
            let reserve = self.reserve().clone();
            let write = move || {
                if reserve.room() < bytes.len() as u64 {
                    return Err(problems::no_room(&reserve));
                }
                upload.write(&bytes).map(|()| upload).map_err(problems::of_blob)
            };
            upload = self.blocking(write).await?;
        }
        self.blocking(move || upload.finish().map_err(problems::of_blob)).await?;
        if let Some(pending) = pending {
            pending.complete(digest);
        }
        Ok(())
    }

    pub(crate) async fn set_stopped(
        self: &Arc<Self>,
        tenant: TenantName,
        name: AppName,
        stopped: bool,
    ) -> Result<AppInfo, ApiProblem> {
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &name)?);
        if !stopped {
            takeover::finish_pending(self, &tenant, &name).await?;
            let before = self.state.app(&tenant, &name).map_err(problems::of_state)?;
            // The keys of the node file may have changed while the app was stopped.
            if before.stopped {
                let release = self.release_of(&before.current().revision).await?;
                self.check_signatures(&tenant, &name, &release).await?;
            }
        }
        let key = (tenant.clone(), name.clone());
        let set = move |node: &Self| node.state.set_stopped(&key.0, &key.1, stopped);
        let app = self.record(&ChangeTarget::app(&tenant, &name), &app_lock, set).await?;
        self.step(ChangeStep::Recorded);
        // Errors are ignored: the only possible error is that the app is not registered in the tenancy, so there is
        // nothing to stop or resume.
        if stopped {
            let _ = self.tenancy.stop(&tenant, &name);
        } else {
            let _ = self.tenancy.resume(&tenant, &name);
        }
        self.step(ChangeStep::TookOver);
        Ok(self.app_info(&tenant, &name, &app))
    }

    pub(crate) async fn remove_app(
        self: &Arc<Self>,
        tenant: TenantName,
        name: AppName,
        data: bool,
    ) -> Result<(), ApiProblem> {
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &name)?);
        self.state.app(&tenant, &name).map_err(problems::of_state)?;
        let subject = ChangeTarget::app(&tenant, &name);
        if !data {
            // Finish a pending replacement of the app's stores: the app's data is kept, so all its stores must be
            // complete.
            takeover::finish_pending(self, &tenant, &name).await?;
        }
        let (node, of) = (self.clone(), subject.clone());
        let pending = self.blocking(move || {
            let intents = removals::intents(&node.dir);
            // An earlier attempt to remove the app with its data may have left its record (the intent) on disk, because
            // its outcome was unknown. The app still exists, so that intent is obsolete.
            let pending = if data { intents.write(&of, "") } else { intents.forget(&of) };
            pending.map_err(|error| problems::failed(&error))
        });
        pending.await?;
        if data {
            self.step(ChangeStep::RemovalNoted);
        }
        let (key, of) = ((tenant.clone(), name.clone()), subject.clone());
        let remove = move |node: &Self| {
            node.state.remove_app(&key.0, &key.1).inspect_err(|error| {
                // The removal failed, so the app and its data stay. Remove the intent: if the app were later removed
                // without its data, the intent would still remove the data. If the outcome of the removal is unknown,
                // the intent is still needed.
                if data && !matches!(error, StateError::Unsettled { .. }) {
                    let _ = removals::intents(&node.dir).forget(&of);
                }
            })
        };
        self.record(&subject, &app_lock, remove).await?;
        self.step(ChangeStep::Forgotten);
        self.tenancy.remove(&tenant, &name);
        self.shape_traffic.remove(&tenant, &name);
        self.step(ChangeStep::Unloaded);
        if data {
            self.remove_data(&subject, Duration::MAX).await?;
            self.step(ChangeStep::DataRemoved);
        }
        Ok(())
    }

    pub(crate) async fn log_lines(
        self: &Arc<Self>,
        tenant: TenantName,
        name: AppName,
        query: LogQuery,
    ) -> Result<LogLines, ApiProblem> {
        let node = self.clone();
        self.blocking(move || {
            node.state.app(&tenant, &name).map_err(problems::of_state)?;
            if query.access && !node.repository.access_log {
                let problem = ApiProblem::new(ProblemKind::NotFound, "the node writes no access log");
                return Err(problem.hint("start the node with `isomer node --access-log`"));
            }
            let repository = &node.repository;
            let log =
                if query.access { repository.access_of(&tenant, &name)? } else { repository.log_of(&tenant, &name)? };
            let failed = |error: AppLogError| match &error {
                AppLogError::Read { .. } => problems::failed(&error),
                _ => ApiProblem::new(ProblemKind::Unavailable, error.to_string()),
            };
            log.query(&query).map_err(failed)
        })
        .await
    }

    fn app_info(&self, tenant: &TenantName, name: &AppName, app: &App) -> AppInfo {
        let current = app.current();
        let state = if app.stopped { Some(AppState::Stopped) } else { self.tenancy.state(tenant, name) };
        let failure = self.tenancy.failure(tenant, name).filter(|_| state == Some(AppState::Failed));
        AppInfo {
            tenant: tenant.clone(),
            name: name.clone(),
            hosts: app.hosts.clone(),
            revision: current.revision.clone(),
            version: current.version.clone(),
            shape: current.shape.clone(),
            state: state.unwrap_or(AppState::Idle),
            deployed_at: current.deployed_at,
            failure: failure.map(|failure| failure.to_string()),
        }
    }
}
