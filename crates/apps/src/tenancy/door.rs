//! A request's way in: which app it is for, whether its tenant may have one more, and whether the app is in memory.

use std::sync::Arc;
use std::time::Instant;

use isomer_front::{Door, Entered, Entering, Refusal};

use super::Tenancy;
use super::app::App;

impl Door for Tenancy {
    fn enter(&self, host: &str) -> Result<Entered, Refusal> {
        let app = self.0.hosts().find(host).ok_or_else(|| self.nobody())?.clone();
        self.let_in(&app)
    }

    fn enter_unnamed(&self) -> Result<Entered, Refusal> {
        let app = self.0.hosts().unnamed().ok_or_else(|| self.nobody())?.clone();
        self.let_in(&app)
    }
}

impl Tenancy {
    /// Why no app answers for a host name.
    fn nobody(&self) -> Refusal {
        if self.0.options.is_of_one_app { Refusal::NotBuilt } else { Refusal::NoHost }
    }

    fn let_in(&self, app: &Arc<App>) -> Result<Entered, Refusal> {
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
            Some(site) => Entering::Ready(site),
            None => inner.load(app)?,
        };
        Ok(Entered { place: Some(permit), site })
    }
}
