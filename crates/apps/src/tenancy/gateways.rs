//! The gateways of apps with a browser group. A gateway is kept while a revision of its app is in memory, so rates and
//! ended sessions apply across revisions.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use isomer_capabilities::open_session_key;
use isomer_front::gateway::AppGateway;
use isomer_front::gateway::app_gateway::GATEWAY_BYTES_MAX;
use isomer_ids::{AppName, TenantName};
use isomer_runtime::Account;

/// The gateways of all apps in memory.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<HashMap<(TenantName, AppName), Weak<AppGateway>>>);

impl Gateways {
    /// Returns the gateway of an app. If there is none, creates it with the key in the file at `key_path`, which is
    /// created if it does not exist, and charges `account`.
    ///
    /// # Errors
    /// If the key cannot be read or created, or if the account has no memory left.
    pub(super) async fn open(
        &self,
        tenant: &TenantName,
        app: &AppName,
        key_path: &Path,
        account: &Arc<Account>,
    ) -> io::Result<Arc<AppGateway>> {
        let name = (tenant.clone(), app.clone());
        if let Some(gateway) = self.with(|all| all.get(&name).and_then(Weak::upgrade)) {
            return Ok(gateway);
        }
        let key_path = key_path.to_owned();
        let key =
            tokio::task::spawn_blocking(move || open_session_key(&key_path)).await.map_err(io::Error::other)??;
        let memory = account.charge_host_memory(GATEWAY_BYTES_MAX);
        let memory = memory.map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full))?;
        Ok(self.with(|all| {
            // Another load may have created the gateway meanwhile.
            if let Some(gateway) = all.get(&name).and_then(Weak::upgrade) {
                return gateway;
            }
            all.retain(|_, gateway| gateway.strong_count() > 0);
            let gateway = Arc::new(AppGateway::new(&key).charged(memory));
            all.insert(name, Arc::downgrade(&gateway));
            gateway
        }))
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(TenantName, AppName), Weak<AppGateway>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_app_has_one_gateway_while_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (gateways, tenant) = (Gateways::default(), "t".parse().unwrap());
        let open = |app: &str| {
            let (app, path) = (app.parse().unwrap(), dir.path().join(format!("{app}.key")));
            let (gateways, tenant) = (&gateways, &tenant);
            async move { gateways.open(tenant, &app, &path, &Account::unlimited()).await.unwrap() }
        };
        let first = open("shop").await;
        assert!(Arc::ptr_eq(&first, &open("shop").await));
        assert!(!Arc::ptr_eq(&first, &open("other").await));
        drop(first);
        let _next = open("third").await;
        assert_eq!(gateways.with(|all| all.len()), 1);
    }
}
