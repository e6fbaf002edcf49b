//! Finds the app of a request, admits the request, and loads the app if it is not in memory.

use std::sync::Arc;
use std::time::Instant;

use isomer_front::{Refusal, ResolvedSite, SiteLookup, SiteResolver};

use super::Tenancy;
use super::app::App;
use crate::group_handler::GroupHandler;

impl SiteResolver<GroupHandler> for Tenancy {
    fn resolve(&self, host: &str) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        let app = self.0.hosts().find(host).ok_or_else(|| self.no_app())?.clone();
        self.admit(&app)
    }

    fn resolve_unnamed(&self) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        let app = self.0.hosts().unnamed().ok_or_else(|| self.no_app())?.clone();
        self.admit(&app)
    }
}

impl Tenancy {
    /// Returns why no app is served under a host name.
    fn no_app(&self) -> Refusal {
        if self.0.options.is_of_one_app { Refusal::NotBuilt } else { Refusal::NoHost }
    }

    fn admit(&self, app: &Arc<App>) -> Result<ResolvedSite<GroupHandler>, Refusal> {
        let inner = &self.0;
        if app.serving.is_stopped() {
            return Err(Refusal::Stopped);
        }
        let now = Instant::now();
        let permit = app.tenant.admission.enter(now)?;
        app.tenant.account.begin().map_err(|retry_after| Refusal::Cpu { retry_after })?;
        let since = now.saturating_duration_since(inner.began);
        app.use_at(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let site = match app.site() {
            Some(site) => SiteLookup::Ready(site),
            None => inner.load(app)?,
        };
        Ok(ResolvedSite { permit: Some(permit), site })
    }
}
