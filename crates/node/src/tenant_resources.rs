//! Each tenant's accounts on the node's disk, which the tenant's apps share.

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

/// The accounts of one tenant.
#[derive(Debug)]
pub(crate) struct TenantResources {
    pub(crate) storage: Arc<StorageAccount>,
    pub(crate) log: Arc<LogQuota>,
    /// Set after the sizes of the tenant's files were measured. They are measured at the first use, so that a node with
    /// many tenants starts sooner.
    counted: OnceLock<()>,
}

impl TenantResources {
    /// Measures the size of the files in the tenant's folder, at the first call only. Blocks.
    pub(crate) fn count(&self, folder: &Path) {
        self.counted.get_or_init(|| {
            if let Err(error) = count_apps(&self.storage, folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot count a tenant's bytes on disk");
            }
        });
    }
}

/// Measures the sizes of the folders of a tenant's apps. Each writable folder is measured separately, because the
/// maximum depth is counted from that folder.
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

/// The accounts of all tenants.
#[derive(Debug)]
pub(crate) struct ResourcesByTenant {
    of_tenants: RwLock<HashMap<TenantName, Arc<TenantResources>>>,
    /// The disk space that tenants must leave free.
    reserve: Arc<Reserve>,
}

impl ResourcesByTenant {
    pub(crate) fn new(reserve: Reserve) -> Self {
        Self { of_tenants: RwLock::default(), reserve: Arc::new(reserve) }
    }

    /// Returns the disk space that tenants must leave free.
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// Adds the accounts of a tenant that `tenancy` knows. If the tenant was created again, its accounts are new.
    pub(crate) fn add(&self, tenant: &TenantName, tenancy: &Tenancy) {
        let (Some(storage), Some(log)) = (tenancy.storage(tenant), tenancy.log_quota(tenant)) else { return };
        storage.set_reserve(self.reserve.clone());
        let mut all = self.of_tenants.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(tenant).is_none_or(|known| !Arc::ptr_eq(&known.storage, &storage)) {
            all.insert(tenant.clone(), Arc::new(TenantResources { storage, log, counted: OnceLock::new() }));
        }
    }

    pub(crate) fn get(&self, tenant: &TenantName) -> Option<Arc<TenantResources>> {
        self.of_tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Charges a tenant for its revisions' data in the state.
    pub(crate) fn charge(&self, tenant: &TenantName, state: &NodeState) {
        if let Some(resources) = self.get(tenant) {
            resources.storage.charge(|| state.charged(tenant));
        }
    }

    pub(crate) fn remove(&self, tenant: &TenantName) {
        self.of_tenants.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }
}
