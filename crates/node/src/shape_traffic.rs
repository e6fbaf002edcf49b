//! What was measured before each app started in its current shape. Averages of different shapes cannot be combined, so
//! advice leaves out earlier measurements.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use isomer_advice::Traffic;
use isomer_ids::{AppName, TenantName};

/// The traffic of apps until the last change of their shape. It is in memory only, as the metrics are. There are no more
/// entries than apps.
#[derive(Debug, Default)]
pub(crate) struct ShapeTraffic(Mutex<HashMap<(TenantName, AppName), Traffic>>);

impl ShapeTraffic {
    /// Records what was measured before the app started in another shape.
    pub(crate) fn set(&self, tenant: &TenantName, app: &AppName, earlier: Traffic) {
        self.lock().insert((tenant.clone(), app.clone()), earlier);
    }

    /// Returns the part of `all` that was measured in the current shape.
    pub(crate) fn current(&self, tenant: &TenantName, app: &AppName, all: Traffic) -> Traffic {
        match self.lock().get(&(tenant.clone(), app.clone())) {
            Some(earlier) => all.since(earlier),
            None => all,
        }
    }

    /// Removes what is recorded of an app.
    pub(crate) fn remove(&self, tenant: &TenantName, app: &AppName) {
        self.lock().remove(&(tenant.clone(), app.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantName, AppName), Traffic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_of_another_shape_is_left_out() {
        let (tenant, app) = ("acme".parse().unwrap(), "shop".parse().unwrap());
        let traffic = |requests| Traffic { requests, ..Traffic::default() };
        let shapes = ShapeTraffic::default();
        assert_eq!(shapes.current(&tenant, &app, traffic(7)).requests, 7);
        shapes.set(&tenant, &app, traffic(7));
        assert_eq!(shapes.current(&tenant, &app, traffic(9)).requests, 2);
        shapes.remove(&tenant, &app);
        assert_eq!(shapes.current(&tenant, &app, traffic(9)).requests, 9);
    }
}
