//! The accounts of tenants' disk space. All apps of a tenant share the tenant's accounts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use isomer_apps::Tenancy;
use isomer_capabilities::StorageAccount;
use isomer_disk::Reserve;
use isomer_ids::TenantName;
use isomer_observe::LogQuota;
use isomer_state::NodeState;
use isomer_traces::TenantTraces;

/// The accounts of one tenant, which its apps share.
#[derive(Debug)]
pub(crate) struct TenantResources {
    pub(crate) storage: Arc<StorageAccount>,
    pub(crate) log: Arc<LogQuota>,
    pub(crate) traces: Arc<TenantTraces>,
    /// Set after the tenant's files were measured. The files are measured at the first use of the account, and not when
    /// the node opens, so that a node with many tenants opens faster.
    counted: OnceLock<()>,
}

impl TenantResources {
    /// Measures the existing files in the tenant's folder, and adds their size to the account. Only the first call has
    /// an effect. Blocks.
    pub(crate) fn count(&self, folder: &Path) {
        self.counted.get_or_init(|| {
            if let Err(error) = count_apps(&self.storage, folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot measure a tenant's files");
            }
        });
    }
}

/// Measures the folders of all apps of a tenant. Each writable folder is measured by a separate scan, because the limit
/// on the depth of nested folders applies to each writable folder by itself.
fn count_apps(storage: &StorageAccount, tenant: &Path) -> io::Result<()> {
    let mut counted = Ok(());
    for app in folders_in(&tenant.join("apps"))? {
        for part in folders_in(&app)? {
            let is_granted = part.file_name().is_some_and(|name| name == "dirs");
            let part = if is_granted { storage.scan_folders_once(&part) } else { storage.scan(&part) };
            counted = part.and(counted);
        }
    }
    counted
}

fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The accounts of all tenants of a node.
#[derive(Debug)]
pub(crate) struct ResourcesByTenant {
    of_tenants: RwLock<HashMap<TenantName, Arc<TenantResources>>>,
    /// The free disk space that tenants' data must not use.
    reserve: Arc<Reserve>,
}

impl ResourcesByTenant {
    pub(crate) fn new(reserve: Reserve) -> Self {
        Self { of_tenants: RwLock::default(), reserve: Arc::new(reserve) }
    }

    /// Returns the free disk space that tenants' data must not use.
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// Adds accounts for a tenant that `tenancy` knows. If the tenant was removed and created again, replaces its
    /// accounts with new ones.
    pub(crate) fn add(&self, tenant: &TenantName, tenancy: &Tenancy) {
        let (Some(storage), Some(log)) = (tenancy.storage(tenant), tenancy.log_quota(tenant)) else { return };
        storage.set_reserve(self.reserve.clone());
        let mut all = self.of_tenants.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(tenant).is_none_or(|known| !Arc::ptr_eq(&known.storage, &storage)) {
            all.insert(
                tenant.clone(),
                Arc::new(TenantResources { storage, log, traces: Arc::default(), counted: OnceLock::new() }),
            );
        }
    }

    pub(crate) fn get(&self, tenant: &TenantName) -> Option<Arc<TenantResources>> {
        self.of_tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Updates the charge to a tenant for its revisions in the node's state.
    pub(crate) fn charge(&self, tenant: &TenantName, state: &NodeState) {
        if let Some(resources) = self.get(tenant) {
            resources.storage.charge(|| state.charged(tenant));
        }
    }

    pub(crate) fn remove(&self, tenant: &TenantName) {
        self.of_tenants.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }
}
