//! Tenants: quotas, own host names, secrets; what they use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isomer_api::{Problem, ProblemKind, TenantChange, TenantInfo, TenantName};
use isomer_capabilities::outbound::{InvalidHostRule, TenantHosts};
use isomer_observe::AppLog;
use isomer_state::{Secret, Tenant};
use tokio::sync::OwnedMutexGuard;

use super::{Host, problems, removals};

/// The most bytes of a secret's value.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// The most bytes of a secret's name.
const SECRET_NAME_BYTES_MAX: usize = 128;

/// Whose turn it is to change a tenant. Changes of one come one after the other, so that what is in memory is what is recorded, and
/// a tenant that is made again does not find its data removed under it. (One turn for all tenants was rejected: a removal waits for
/// requests in flight, and others' tenants are not to wait for these.)
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<TenantName, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) async fn take(&self, tenant: &TenantName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(tenant.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

impl Host {
    pub(super) fn all_tenants(&self) -> Vec<TenantInfo> {
        self.state.tenants().into_iter().map(|(name, tenant)| self.tenant_info(name, &tenant)).collect()
    }

    pub(super) fn one_tenant(&self, name: &TenantName) -> Result<TenantInfo, Problem> {
        let tenant = self.state.tenant(name).map_err(problems::of_state)?;
        Ok(self.tenant_info(name.clone(), &tenant))
    }

    pub(super) async fn change_tenant(
        self: &Arc<Self>,
        name: TenantName,
        change: TenantChange,
    ) -> Result<TenantInfo, Problem> {
        let _turn = self.turns.take(&name).await;
        let host = self.clone();
        self.blocking(move || host.change_tenant_now(&name, change)).await
    }

    fn change_tenant_now(&self, name: &TenantName, change: TenantChange) -> Result<TenantInfo, Problem> {
        let before = self.state.tenant(name).map(|tenant| tenant.quotas.clone()).unwrap_or_default();
        let mut quotas = before;
        change.quotas.clone().apply(&mut quotas);
        let wrong = |error: InvalidHostRule| {
            Problem::new(ProblemKind::BadRequest, error.to_string())
                .hint("write hosts as in a manifest's `grants.http`, or `*` for all that are public")
        };
        TenantHosts::new(quotas.outbound_hosts.as_deref()).map_err(wrong)?;
        let tenant = self.state.set_tenant(name, change).map_err(problems::of_state)?;
        self.tenancy.set_tenant(name, &tenant.quotas).map_err(wrong)?;
        self.resources.add(name, &self.tenancy);
        Ok(self.tenant_info(name.clone(), &tenant))
    }

    pub(super) async fn drop_tenant(self: &Arc<Self>, name: &TenantName) -> Result<(), Problem> {
        let _turn = self.turns.take(name).await;
        let (host, tenant) = (self.clone(), name.clone());
        let logs = self.blocking(move || {
            host.state.tenant(&tenant).map_err(problems::of_state)?;
            removals::note(&host.dir, &tenant, None).map_err(|error| problems::failed(&error))?;
            host.state.remove_tenant(&tenant).map_err(|error| {
                // It stays, and so does its data. If the note does too, the next start removes it.
                let _ = removals::forget(&host.dir, &tenant, None);
                problems::of_state(error)
            })?;
            Ok(host.shelf.logs_of(&tenant))
        });
        // Apps that were removed without their data: their requests in flight may still say something.
        let logs = logs.await?;
        self.tenancy.remove_tenant(name);
        self.resources.remove(name);
        self.tenancy.stores().closed(&self.dir.tenant(name.as_str())).await;
        let (host, tenant) = (self.clone(), name.clone());
        self.blocking(move || {
            logs.iter().for_each(AppLog::close);
            let moved = removals::set_aside(&host.dir, &tenant, None).map_err(|error| problems::failed(&error))?;
            removals::discard(moved);
            Ok(())
        })
        .await
    }

    pub(super) fn change_secret(&self, tenant: &TenantName, name: &str, value: Option<Vec<u8>>) -> Result<(), Problem> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > SECRET_NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            return Err(Problem::new(ProblemKind::BadRequest, "this is not the name of a secret")
                .hint("use the name that the manifest has in `[secrets]`"));
        }
        match value {
            None => self.state.remove_secret(tenant, name),
            Some(value) if value.len() > SECRET_BYTES_MAX => {
                let title = format!("a secret may have {SECRET_BYTES_MAX} bytes");
                return Err(Problem::new(ProblemKind::TooLarge, title));
            }
            Some(value) if std::str::from_utf8(&value).is_err() => {
                return Err(Problem::new(ProblemKind::BadRequest, "a secret is text in UTF-8")
                    .hint("encode it, for example in base64"));
            }
            Some(value) => self.state.set_secret(tenant, name, &Secret::new(value)),
        }
        .map_err(problems::of_state)?;
        // What is in memory has the values that it began with.
        for (app, _) in self.state.apps_of(tenant) {
            // A tenancy that does not know the app has nothing of it in memory.
            let _ = self.tenancy.unload(tenant, &app);
        }
        Ok(())
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
