//! The tenants and apps of a tenancy, and the host names of the apps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use isomer_api::Quotas;
use isomer_capabilities::outbound::InvalidHostRule;
use isomer_ids::{AppName, HostPattern, ReleaseDigest, TenantName};

use super::TenancyError;
use super::app::App;
use super::host_names::HostNames;
use super::tenant::Tenant;

/// All tenants, apps and host names.
#[derive(Default)]
pub(super) struct Registry {
    host_names: RwLock<HostNames>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    tenants: HashMap<TenantName, Arc<Tenant>>,
    apps: BTreeMap<(TenantName, AppName), Arc<App>>,
    /// The total number of requests to tenants that have been removed since. It is part of
    /// [`RegistryCounts::requests`].
    removed_requests: u64,
}

/// The numbers of tenants, apps and requests.
pub(super) struct RegistryCounts {
    pub(super) tenants: usize,
    pub(super) apps: usize,
    /// The number of requests since the process started, including those of removed tenants.
    pub(super) requests: u64,
}

impl Registry {
    /// Returns the app that serves the host name `host`, if any.
    pub(super) fn app_of_host(&self, host: &str) -> Option<Arc<App>> {
        self.host_names.read().unwrap_or_else(PoisonError::into_inner).find(host).cloned()
    }

    /// Returns the app that serves requests without a host name, if any.
    pub(super) fn app_without_host(&self) -> Option<Arc<App>> {
        self.host_names.read().unwrap_or_else(PoisonError::into_inner).unnamed().cloned()
    }

    /// Adds a tenant without limits. Does nothing if the tenant exists.
    pub(super) fn set_own_tenant(&self, name: &TenantName) {
        self.entries().tenants.entry(name.clone()).or_insert_with(|| Tenant::own(name.clone()));
    }

    /// Adds a tenant, or changes the quotas of a tenant.
    ///
    /// # Errors
    /// If the outbound hosts in the quotas are invalid. Nothing is changed in this case.
    pub(super) fn set_tenant(&self, name: &TenantName, quotas: &Quotas) -> Result<(), InvalidHostRule> {
        let mut entries = self.entries();
        match entries.tenants.get(name) {
            Some(tenant) => tenant.set(quotas)?,
            None => drop(entries.tenants.insert(name.clone(), Tenant::new(name.clone(), quotas)?)),
        }
        Ok(())
    }

    pub(super) fn tenant(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.entries().tenants.get(name).cloned()
    }

    /// Returns all apps.
    pub(super) fn apps(&self) -> Vec<Arc<App>> {
        self.entries().apps.values().cloned().collect()
    }

    /// Returns all tenants.
    pub(super) fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.entries().tenants.values().cloned().collect()
    }

    /// Removes a tenant. The caller must have removed the tenant's apps.
    pub(super) fn remove_tenant(&self, name: &TenantName) {
        let mut entries = self.entries();
        if let Some(tenant) = entries.tenants.remove(name) {
            entries.removed_requests += tenant.admission.counts().requests;
        }
    }

    pub(super) fn app(&self, tenant: &TenantName, app: &AppName) -> Result<Arc<App>, TenancyError> {
        let found = self.entries().apps.get(&(tenant.clone(), app.clone())).cloned();
        found.ok_or_else(|| TenancyError::NoApp { tenant: tenant.clone(), app: app.clone() })
    }

    /// Returns the app, and adds it first if it does not exist. Only a new app gets `revision`.
    pub(super) fn app_or_new(
        &self,
        tenant: &TenantName,
        name: &AppName,
        revision: &ReleaseDigest,
    ) -> Result<Arc<App>, TenancyError> {
        let mut entries = self.entries();
        let owner = entries.tenants.get(tenant).ok_or_else(|| TenancyError::NoTenant(tenant.clone()))?.clone();
        let app = entries.apps.entry((tenant.clone(), name.clone()));
        Ok(app.or_insert_with(|| App::new(owner, name.clone(), revision.clone())).clone())
    }

    /// Removes an app. The caller must remove the app's host names with [`Registry::set_host_names`].
    pub(super) fn remove_app(&self, tenant: &TenantName, app: &AppName) -> Option<Arc<App>> {
        self.entries().apps.remove(&(tenant.clone(), app.clone()))
    }

    pub(super) fn apps_of(&self, tenant: &TenantName) -> Vec<Arc<App>> {
        let entries = self.entries();
        entries.apps.iter().filter(|((owner, _), _)| owner == tenant).map(|(_, app)| app.clone()).collect()
    }

    /// Replaces the host names of an app with `new`. `current` is the app's own copy of its host names, and is updated.
    pub(super) fn set_host_names(&self, app: &Arc<App>, current: &mut Box<[HostPattern]>, new: &[HostPattern]) {
        if **current == *new {
            return;
        }
        let mut host_names = self.host_names.write().unwrap_or_else(PoisonError::into_inner);
        for removed in current.iter().filter(|host| !new.contains(host)) {
            host_names.remove(removed, app);
        }
        for host in new {
            host_names.insert(host, app);
        }
        *current = new.into();
    }

    pub(super) fn counts(&self) -> RegistryCounts {
        let entries = self.entries();
        let requests = entries.tenants.values().map(|tenant| tenant.admission.counts().requests);
        RegistryCounts {
            tenants: entries.tenants.len(),
            apps: entries.apps.len(),
            requests: entries.removed_requests + requests.sum::<u64>(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
