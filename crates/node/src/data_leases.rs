//! Leases of the data of apps. The admin API holds a lease while it reads the stores of an app, and a removal of the app's
//! data waits until there is no lease.
//!
//! A reader takes the lease before it checks that the app is recorded, and a removal waits for leases after the app is no
//! longer recorded. So a reader that takes a lease too late for the removal does not find the app. Without a lease, a
//! reader could open a file while the file is moved to the trash, or create an empty store of a removed app.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_ids::{AppName, TenantName};
use tokio::sync::watch;

use crate::intents::ChangeTarget;

/// The number of leases of each app; apps without leases are absent.
type LeaseCounts = BTreeMap<(TenantName, AppName), usize>;

/// The leases of the apps of a node. Their number is limited by the number of requests to the admin API. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DataLeases(Arc<watch::Sender<LeaseCounts>>);

/// A lease of the data of one app. The data is not removed until the lease is dropped.
#[derive(Debug)]
pub(crate) struct DataLease {
    leases: DataLeases,
    app: (TenantName, AppName),
}

impl Default for DataLeases {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl DataLeases {
    /// Returns a lease of the data of an app. The app need not exist.
    pub(crate) fn lease(&self, tenant: &TenantName, app: &AppName) -> DataLease {
        let app = (tenant.clone(), app.clone());
        self.0.send_modify(|counts| *counts.entry(app.clone()).or_default() += 1);
        DataLease { leases: self.clone(), app }
    }

    /// Waits until there is no lease of the target's data.
    pub(crate) async fn released(&self, target: &ChangeTarget) {
        let is_of_target = |(tenant, app): &(TenantName, AppName)| {
            *tenant == target.tenant && target.app.as_ref().is_none_or(|name| name == app)
        };
        // Fails only if the sender was dropped, and `self` owns the sender.
        let _ = self.0.subscribe().wait_for(|counts| !counts.keys().any(is_of_target)).await;
    }
}

impl Drop for DataLease {
    fn drop(&mut self) {
        self.leases.0.send_modify(|counts| {
            if let Some(count) = counts.get_mut(&self.app) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&self.app);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_removal_waits_for_all_leases_of_its_target() {
        let (tenant, other): (TenantName, TenantName) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let (shop, blog): (AppName, AppName) = ("shop".parse().unwrap(), "blog".parse().unwrap());
        let leases = DataLeases::default();
        let leased = [leases.lease(&tenant, &shop), leases.lease(&tenant, &shop)];
        let is_released = |target: ChangeTarget| leases.released(&target).now_or_never().is_some();
        for (target, released) in [
            (ChangeTarget::app(&tenant, &shop), false),
            (ChangeTarget::tenant(&tenant), false),
            (ChangeTarget::app(&tenant, &blog), true),
            (ChangeTarget::tenant(&other), true),
        ] {
            assert_eq!(is_released(target.clone()), released, "{target:?}");
        }
        let [first, second] = leased;
        let target = ChangeTarget::app(&tenant, &shop);
        let mut waiting = Box::pin(leases.released(&target));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.now_or_never().is_some());
        assert!(leases.0.borrow().is_empty());
    }
}
