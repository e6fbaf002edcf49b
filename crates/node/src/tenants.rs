//! Operations on tenants: changing their quotas, host names and secrets, and reporting their use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind, TenantChange, TenantInfo};
use isomer_apps::Package;
use isomer_capabilities::AppGrants;
use isomer_capabilities::outbound::{InvalidHostRule, TenantHosts};
use isomer_display::size;
use isomer_ids::{AppName, ReleaseDigest, SECRET_BYTES_MAX, SecretName, TenantName};
use isomer_state::{Secret, StateError, Tenant};

use crate::intents::ChangeTarget;
use crate::node::Node;
use crate::revisions::record::RevisionRecord;
use crate::revisions::release::read_manifest;
use crate::steps::ChangeStep;
use crate::{problems, removals};

/// A requested change of a secret.
pub(crate) enum SecretChange {
    Set(Vec<u8>),
    /// Removes the secret. A secret that an app uses is removed only if `force` is true.
    Remove {
        force: bool,
    },
}

/// The reason why a secret is not removed.
enum SecretRefusal {
    ByUse(ApiProblem),
    ByState(StateError),
}

impl From<StateError> for SecretRefusal {
    fn from(error: StateError) -> Self {
        Self::ByState(error)
    }
}

/// Returns the names, in backticks, of the components to which a revision grants the secret. `kept` is the record of
/// the revision.
fn used_by(kept: &[u8], secret: &str) -> Result<Vec<String>, ApiProblem> {
    let kept = RevisionRecord::read(kept)?;
    let grants = match Package::from_bytes(kept.package) {
        Ok(package) => package.grants().clone(),
        // Another version of this program made the package. Read the grants from the manifest instead.
        Err(_) => AppGrants::from(&read_manifest(&kept.release()?.manifest)?.0),
    };
    let granted = grants.components.iter().filter(|(_, it)| it.secrets.iter().any(|name| name == secret));
    Ok(granted.map(|(component, _)| format!("`{component}`")).collect())
}

impl Node {
    pub(crate) fn all_tenants(&self) -> Vec<TenantInfo> {
        self.state.tenants().into_iter().map(|(name, tenant)| self.tenant_info(name, &tenant)).collect()
    }

    pub(crate) fn one_tenant(&self, name: &TenantName) -> Result<TenantInfo, ApiProblem> {
        let tenant = self.state.tenant(name).map_err(problems::of_state)?;
        Ok(self.tenant_info(name.clone(), &tenant))
    }

    pub(crate) async fn change_tenant(
        self: &Arc<Self>,
        name: TenantName,
        change: TenantChange,
    ) -> Result<TenantInfo, ApiProblem> {
        let lock = Arc::new(self.tenant_locks.take(&name).await?);
        let subject = ChangeTarget::tenant(&name);
        if self.state.tenant(&name).is_err() {
            self.remove_leftovers(&subject).await?;
        }
        let mut quotas = self.state.tenant(&name).map(|tenant| tenant.quotas.clone()).unwrap_or_default();
        change.quotas.clone().apply(&mut quotas);
        let wrong = |error: InvalidHostRule| {
            ApiProblem::new(ProblemKind::BadRequest, error.to_string())
                .hint("write hosts as in `grants.http` of a manifest, or `*` for all public hosts")
        };
        TenantHosts::new(quotas.outbound_hosts.as_deref()).map_err(wrong)?;
        let of = name.clone();
        let tenant = self.record(&subject, &lock, move |node| node.state.set_tenant(&of, change)).await?;
        self.step(ChangeStep::Recorded);
        self.take_tenant(&name, &tenant).map_err(wrong)?;
        self.step(ChangeStep::TookOver);
        let node = self.clone();
        self.blocking(move || Ok(node.tenant_info(name, &tenant))).await
    }

    pub(crate) async fn delete_tenant(self: &Arc<Self>, name: &TenantName) -> Result<(), ApiProblem> {
        let lock = Arc::new(self.tenant_locks.take(name).await?);
        let subject = ChangeTarget::tenant(name);
        self.state.tenant(name).map_err(problems::of_state)?;
        let (node, of) = (self.clone(), subject.clone());
        self.blocking(move || removals::intents(&node.dir).write(&of, "").map_err(|error| problems::failed(&error)))
            .await?;
        self.step(ChangeStep::RemovalNoted);
        let of = subject.clone();
        let remove = move |node: &Self| {
            node.state.remove_tenant(&of.tenant).inspect_err(|error| {
                // The removal failed, so the tenant and its data stay, and the intent is obsolete. If the outcome of
                // the removal is unknown, the intent is still needed.
                if !matches!(error, StateError::Unsettled { .. }) {
                    let _ = removals::intents(&node.dir).forget(&of);
                }
            })
        };
        self.record(&subject, &lock, remove).await?;
        self.step(ChangeStep::Forgotten);
        self.unload_tenant(name);
        self.step(ChangeStep::Unloaded);
        // Waits without a limit for requests in flight: requests of apps that were removed without their data may still
        // write to the tenant's folder.
        let removed = self.remove_data(&subject, Duration::MAX).await;
        self.resources.remove(name);
        removed?;
        self.step(ChangeStep::DataRemoved);
        Ok(())
    }

    pub(crate) async fn change_secret(
        self: &Arc<Self>,
        tenant: &TenantName,
        name: SecretName,
        change: SecretChange,
    ) -> Result<(), ApiProblem> {
        match &change {
            SecretChange::Set(value) if value.len() as u64 > SECRET_BYTES_MAX => {
                let title = format!("the value of a secret may be at most {}", size(SECRET_BYTES_MAX));
                return Err(ApiProblem::new(ProblemKind::TooLarge, title));
            }
            SecretChange::Set(value) if std::str::from_utf8(value).is_err() => {
                return Err(ApiProblem::new(ProblemKind::BadRequest, "the value of a secret must be UTF-8 text")
                    .hint("encode it, for example as base64"));
            }
            SecretChange::Set(_) | SecretChange::Remove { .. } => {}
        }
        let lock = Arc::new(self.tenant_locks.take(tenant).await?);
        let of = tenant.clone();
        let record = move |node: &Self| match change {
            SecretChange::Set(value) => node.state.set_secret(&of, name.as_str(), &Secret::new(value)).map(Ok),
            SecretChange::Remove { force } => {
                let is_set = node.state.tenant(&of).is_ok_and(|tenant| tenant.secrets.contains(name.as_str()));
                let checked = if force || !is_set {
                    Ok(HashMap::new())
                } else {
                    node.check_unused(&of, name.as_str(), &HashMap::new())
                };
                let checked = match checked {
                    Ok(checked) => checked,
                    Err(problem) => return Ok(Err(problem)),
                };
                // `remove_secret` calls this second check while the node's state is locked. To hold the lock only for a
                // short time, this check covers only the apps whose revision has changed since the first check.
                let may = || if force { Ok(()) } else { node.check_unused(&of, name.as_str(), &checked).map(drop) };
                match node.state.remove_secret(&of, name.as_str(), || may().map_err(SecretRefusal::ByUse)) {
                    Ok(()) => Ok(Ok(())),
                    Err(SecretRefusal::ByUse(problem)) => Ok(Err(problem)),
                    Err(SecretRefusal::ByState(error)) => Err(error),
                }
            }
        };
        self.record(&ChangeTarget::tenant(tenant), &lock, record).await??;
        self.step(ChangeStep::Recorded);
        self.reload_apps(tenant);
        self.step(ChangeStep::TookOver);
        Ok(())
    }

    /// Checks that no revision in service uses the secret. Skips the revisions in `checked`, which an earlier call has
    /// checked. Returns the revisions that do not use the secret.
    ///
    /// # Errors
    /// If a revision uses the secret. The problem names the apps and components.
    fn check_unused(
        &self,
        tenant: &TenantName,
        name: &str,
        checked: &HashMap<AppName, ReleaseDigest>,
    ) -> Result<HashMap<AppName, ReleaseDigest>, ApiProblem> {
        let (mut users, mut unused) = (Vec::new(), HashMap::new());
        for (app, kept) in self.state.apps_of(tenant) {
            let revision = &kept.current().revision;
            if checked.get(&app) == Some(revision) {
                continue;
            }
            let Some(bytes) = self.state.package(revision).map_err(problems::of_state)? else { continue };
            let used = used_by(&bytes, name)?;
            if used.is_empty() {
                unused.insert(app, revision.clone());
            } else {
                users.push(format!("app `{app}`, component {}", used.join(", ")));
            }
        }
        if users.is_empty() {
            return Ok(unused);
        }
        Err(ApiProblem::new(ProblemKind::Conflict, format!("the secret `{name}` of tenant `{tenant}` is in use"))
            .detail(users.join("\n"))
            .hint("deploy these apps without the secret first")
            .hint(format!("or remove the secret anyway, so that these apps no longer start: isomer secrets remove {name} --tenant {tenant} --force")))
    }

    fn tenant_info(&self, name: TenantName, tenant: &Tenant) -> TenantInfo {
        if let Some(resources) = self.resources.get(&name) {
            resources.count(&self.dir.tenant(name.as_str()));
        }
        let usage = self.tenancy.usage(&name).unwrap_or_default();
        TenantInfo {
            quotas: tenant.quotas.clone(),
            usage,
            apps: self.state.apps_of(&name).into_iter().map(|(app, _)| app).collect(),
            hosts: tenant.hosts.clone(),
            secrets: tenant.secrets.iter().cloned().collect(),
            name,
        }
    }
}
