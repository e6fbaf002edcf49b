//! The requests that start a rollout: deploy, roll back, swap components, and change the shape. Each request determines
//! the release to bring into service. `action` is the number of the request in the audit log.

use std::sync::Arc;
use std::time::Instant;

use isomer_admin::Caller;
use isomer_api::{
    ApiProblem, DeployReport, ProblemKind, Release, ReshapeRequest, RevisionOperation, RollbackRequest, SwapRequest,
};
use isomer_ids::{AppName, TenantName};
use isomer_parcel::artifact::AppArtifact;
use isomer_parcel::release_digest;

use super::checks::check_size;
use super::rollout::Rollout;
use crate::node::Node;
use crate::problems;
use crate::revisions::record::{self, RevisionRecord};

impl Node {
    pub(crate) async fn deploy_release(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        mut release: Release,
        action: Option<u64>,
    ) -> Result<DeployReport, ApiProblem> {
        let started_at = Instant::now();
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &app)?);
        check_size(&release)?;
        self.check_signatures(&tenant, &app, &release).await?;
        let before = self.app_before(&tenant, &app)?;
        let revision = release_digest(&release);
        let (operation, message) = (RevisionOperation::Deploy, release.message.take());
        self.attempt_rollout(Rollout {
            caller,
            operation,
            message,
            tenant,
            app,
            release,
            revision,
            before,
            snapshot: None,
            started_at,
            app_lock,
            action,
        })
        .await
    }

    pub(crate) async fn roll_back(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        rollback: RollbackRequest,
        action: Option<u64>,
    ) -> Result<DeployReport, ApiProblem> {
        let started_at = Instant::now();
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &app)?);
        let before = self.state.app(&tenant, &app).map_err(problems::of_state)?;
        let hint = format!("list the app's revisions: isomer revisions {app} --tenant {tenant}");
        let revision = match rollback.revision {
            Some(revision) if before.history.iter().any(|one| one.revision == revision) => revision,
            Some(revision) => {
                let known = format!("app `{app}` of tenant `{tenant}` has no revision `{}`", revision.short());
                return Err(ApiProblem::new(ProblemKind::NotFound, known).hint(hint));
            }
            None => {
                let none = || format!("app `{app}` of tenant `{tenant}` has no earlier revision");
                let earlier = before.history.get(1);
                earlier.ok_or_else(|| ApiProblem::new(ProblemKind::NotFound, none()).hint(hint))?.revision.clone()
            }
        };
        let snapshot = match rollback.to_snapshot {
            true => Some(self.snapshot_of(&tenant, &app, &revision).await?),
            false => None,
        };
        let release = self.release_of(&revision).await?;
        self.check_signatures(&tenant, &app, &release).await?;
        let message = rollback.message.or_else(|| before.first_message(&revision).cloned());
        self.attempt_rollout(Rollout {
            caller,
            operation: RevisionOperation::Rollback,
            message,
            tenant,
            app,
            release,
            revision,
            before: Some(before),
            snapshot,
            started_at,
            app_lock,
            action,
        })
        .await
    }

    /// Checks that a key that may deploy for the tenant has signed the release. The check hashes the release and verifies
    /// signatures, so it runs on a thread that may block.
    pub(crate) async fn check_signatures(
        self: &Arc<Self>,
        tenant: &TenantName,
        app: &AppName,
        release: &Release,
    ) -> Result<(), ApiProblem> {
        let (node, of) = (self.clone(), (tenant.clone(), app.clone(), release.clone()));
        self.blocking(move || node.signatures.check(&of.0, &of.1, &of.2)).await
    }

    /// Adds the recorded signatures of a revision to its release, and records those that are new. The digest of a release
    /// does not cover its signatures, so a revision can be recorded already, without them. Blocks.
    pub(super) fn record_signatures(&self, rollout: &mut Rollout) -> Result<(), ApiProblem> {
        let Rollout { revision, release, .. } = rollout;
        let Some(bytes) = self.state.package(revision).map_err(problems::of_state)? else { return Ok(()) };
        let mut recorded = RevisionRecord::read(&bytes)?.release()?;
        // Signatures are about a digest of 256 bits, and a revision is found by one of 128 bits. Two releases with the same
        // revision could be made on purpose, so that the signature of one would bring the other into service.
        if AppArtifact::of(&recorded).ok() != AppArtifact::of(release).ok() {
            let title = format!("the node has another release with the revision `{}`", revision.short());
            return Err(ApiProblem::new(ProblemKind::Conflict, title).hint("change the app, and deploy it again"));
        }
        release.signatures = self.signatures.to_record(release, &recorded.signatures);
        if release.signatures != recorded.signatures {
            recorded.signatures.clone_from(&release.signatures);
            let bytes = record::with_release(&bytes, &recorded)?;
            self.state.set_package(revision, &bytes).map_err(problems::of_state)?;
        }
        Ok(())
    }

    pub(crate) async fn swap_components(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        swap: SwapRequest,
        action: Option<u64>,
    ) -> Result<DeployReport, ApiProblem> {
        let started_at = Instant::now();
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &app)?);
        let before = self.state.app(&tenant, &app).map_err(problems::of_state)?;
        let mut release = self.release_of(&before.current().revision).await?;
        for (name, part) in swap.components {
            let Some(component) = release.components.get_mut(&name) else {
                let known = release.components.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let title = format!("app `{app}` of tenant `{tenant}` has no component `{name}`");
                return Err(
                    ApiProblem::new(ProblemKind::NotFound, title).hint(format!("the app's components are {known}"))
                );
            };
            *component = part;
        }
        check_size(&release)?;
        self.check_signatures(&tenant, &app, &release).await?;
        let revision = release_digest(&release);
        self.attempt_rollout(Rollout {
            caller,
            operation: RevisionOperation::Swap,
            message: swap.message,
            tenant,
            app,
            release,
            revision,
            before: Some(before),
            snapshot: None,
            started_at,
            app_lock,
            action,
        })
        .await
    }

    pub(crate) async fn reshape_app(
        self: &Arc<Self>,
        caller: Caller,
        tenant: TenantName,
        app: AppName,
        reshape: ReshapeRequest,
        action: Option<u64>,
    ) -> Result<DeployReport, ApiProblem> {
        let started_at = Instant::now();
        let app_lock = Arc::new(self.app_locks.begin(&tenant, &app)?);
        let before = self.state.app(&tenant, &app).map_err(problems::of_state)?;
        let mut release = self.release_of(&before.current().revision).await?;
        release.shape = reshape.shape;
        check_size(&release)?;
        self.check_signatures(&tenant, &app, &release).await?;
        let revision = release_digest(&release);
        self.attempt_rollout(Rollout {
            caller,
            operation: RevisionOperation::Reshape,
            message: reshape.message,
            tenant,
            app,
            release,
            revision,
            before: Some(before),
            snapshot: None,
            started_at,
            app_lock,
            action,
        })
        .await
    }
}
