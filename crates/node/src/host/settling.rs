//! Changes of an app of which it is not known whether they were made: the disk failed while they were recorded, and cannot be read.
//!
//! Neither is assumed. The app serves as before, nobody changes it, and nothing is removed that either outcome needs, until the state can
//! be read again; then what is in memory is brought into line with it, as a start would do.

use std::sync::{Arc, Weak};
use std::time::Duration;

use isomer_api::{AppName, TenantName};
use isomer_state::{App, StateError};

use super::{Host, removals};
use crate::deploy::steps::Changing;

/// How often it is tried to read the state.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Tenant and app.
type Key = (TenantName, AppName);

impl Host {
    /// As soon as the state can be read, calls `first` with what is recorded of the app, where it may block, and brings what is in memory into line.
    /// What `first` returns is dropped after that.
    pub(crate) fn settle_later<T: Send + 'static>(
        self: &Arc<Self>,
        key: Key,
        changing: Arc<Changing>,
        first: impl FnOnce(&Self, Option<&App>) -> T + Send + 'static,
    ) {
        let (tenant, app) = &key;
        tracing::error!(%tenant, %app, "it is not known whether a change was recorded: it is settled when the node's state can be read");
        tokio::spawn(settle(Arc::downgrade(self), key, changing, first));
    }

    /// As [`Host::settle_later`], if `error` leaves it open whether a change was made.
    pub(crate) fn settle_if_open(self: &Arc<Self>, error: &StateError, key: Key, changing: &Arc<Changing>) {
        if matches!(error, StateError::Unsettled { .. }) {
            self.settle_later(key, changing.clone(), |_, _| ());
        }
    }
}

async fn settle<T: Send + 'static>(
    host: Weak<Host>,
    key: Key,
    changing: Arc<Changing>,
    first: impl FnOnce(&Host, Option<&App>) -> T + Send + 'static,
) {
    loop {
        tokio::time::sleep(TRY_EVERY).await;
        // When the node is gone, the next start settles it.
        let Some(host) = host.upgrade() else { return };
        let reading = host.clone();
        if host.blocking(move || Ok(reading.state.reread())).await.is_ok_and(|read| read.is_ok()) {
            break;
        }
    }
    let Some(host) = host.upgrade() else { return };
    let (tenant, app) = &key;
    let recorded = host.state.app(tenant, app).ok();
    let (settling, found) = (host.clone(), recorded.clone());
    let kept = host.blocking(move || Ok(first(&settling, found.as_deref()))).await;
    match recorded {
        Some(recorded) => {
            let revision = &recorded.current().revision;
            let put = host.tenancy.put(tenant, app, revision, &recorded.hosts, recorded.stopped);
            if let Err(error) = put {
                tracing::error!(%tenant, %app, %error, "an app is not served");
            }
        }
        None => {
            host.tenancy.remove(tenant, app);
            let note = (tenant.clone(), Some(app.clone()));
            if removals::is_noted(&host.dir, &note) {
                host.tenancy.stores().closed(&host.dir.app(tenant.as_str(), app.as_str())).await;
                host.carry_out(&note).await;
                if let Some(storage) = host.storage(tenant) {
                    storage.forget(&host.dir.app(tenant.as_str(), app.as_str()));
                }
            }
        }
    }
    tracing::warn!(%tenant, %app, is_there = host.state.app(tenant, app).is_ok(), "what was recorded is known again, and holds");
    drop((kept, changing));
}
