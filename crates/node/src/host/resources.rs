//! What is known of each tenant where its apps come from: what they share of the disk.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use isomer_api::TenantName;
use isomer_capabilities::StorageAccount;
use isomer_observe::LogQuota;

use crate::tenancy::Tenancy;

/// Of one tenant.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) storage: Arc<StorageAccount>,
    pub(super) log: Arc<LogQuota>,
    /// Set when what the tenant has on disk was counted: at its first use, since a node of many tenants starts sooner without.
    counted: OnceLock<()>,
}

impl Resources {
    /// Counts what lies in the tenant's folder, the first time. Blocks.
    pub(super) fn count(&self, folder: &Path) {
        self.counted.get_or_init(|| {
            if let Err(error) = self.storage.scan(folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot count what a tenant has on disk");
            }
        });
    }
}

/// Of all tenants.
#[derive(Debug, Default)]
pub(super) struct AllResources(RwLock<HashMap<TenantName, Arc<Resources>>>);

impl AllResources {
    /// Takes note of a tenant that `tenancy` knows.
    pub(super) fn add(&self, tenant: &TenantName, tenancy: &Tenancy) {
        let (Some(storage), Some(log)) = (tenancy.storage(tenant), tenancy.log_quota(tenant)) else { return };
        let resources = || Arc::new(Resources { storage, log, counted: OnceLock::new() });
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(tenant.clone()).or_insert_with(resources);
    }

    pub(super) fn get(&self, tenant: &TenantName) -> Option<Arc<Resources>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    pub(super) fn remove(&self, tenant: &TenantName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }
}
