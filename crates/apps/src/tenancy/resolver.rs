//! Resolves the host name of a request: finds the app, checks the limits of the app's tenant, and loads the app if it
//! is not in memory.

use std::sync::Arc;
use std::time::Instant;

use isomer_front::{Refusal, ResolvedSite, SiteLookup, SiteResolver};
use isomer_telemetry::metrics::Metrics;

use super::Tenancy;
use super::app::App;
use crate::group_handler::GroupHandler;

impl SiteResolver<GroupHandler> for Tenancy {
    fn resolve(&self, host: &str) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        let app = self.registry().app_of_host(host).ok_or_else(|| self.no_app())?;
        self.admit(&app)
    }

    fn resolve_unnamed(&self) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        let app = self.registry().app_without_host().ok_or_else(|| self.no_app())?;
        self.admit(&app)
    }

    fn metrics(&self) -> Option<&Metrics> {
        Some(Tenancy::metrics(self))
    }
}

impl Tenancy {
    /// Returns the reason why no app serves a host name.
    fn no_app(&self) -> Refusal {
        if self.loader().options.is_of_one_app { Refusal::NotBuilt } else { Refusal::NoHost }
    }

    fn admit(&self, app: &Arc<App>) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        if app.lifecycle.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let now = Instant::now();
        let permit = app.tenant.admission.enter(now)?;
        app.tenant.account.begin().map_err(|retry_after| Refusal::Cpu { retry_after })?;
        app.set_used_ns(self.nanos_since_start(now));
        let site = match app.begin_request() {
            Some(site) => SiteLookup::Ready(site),
            None => self.loader().load(app)?,
        };
        Ok(ResolvedSite { permit: Some(permit), site })
    }
}
