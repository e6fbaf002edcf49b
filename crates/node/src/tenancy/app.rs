//! An app in memory. While nobody asks for it, it is a name, its hosts and the name of its revision.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use isomer_api::{AppName, HostPattern, RevisionId};
use isomer_front::{Refusal, Site};
use tokio::sync::watch;

use super::loaded::Loaded;
use super::tenant::Tenant;

/// One app of a tenant.
pub(super) struct App {
    pub(super) tenant: Arc<Tenant>,
    name: AppName,
    /// What serves it, while it is in memory.
    loaded: ArcSwapOption<Loaded>,
    /// When a request came last, in nanoseconds since the node started.
    used_ns: AtomicU64,
    is_stopped: AtomicBool,
    /// Is it among those that may be dropped? Changed under the lock of the loaded set.
    pub(super) is_listed: AtomicBool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) revision: RevisionId,
    pub(super) hosts: Box<[HostPattern]>,
    /// Counts up whenever something else is to be served: what was begun before does not count then.
    pub(super) generation: u64,
    pub(super) loading: Loading,
    /// Requests wait until this closes: see [`super::hold`].
    pub(super) held: Option<watch::Receiver<()>>,
}

/// Is it on its way into memory?
pub(super) enum Loading {
    No,
    /// Whoever comes waits for the same.
    Begun(watch::Receiver<Option<Outcome>>),
    /// It failed some times in a row, and is not tried again before then.
    Failed {
        times: u32,
        until: Instant,
    },
}

pub(super) type Outcome = Result<Arc<Site>, Refusal>;

impl App {
    pub(super) fn new(tenant: Arc<Tenant>, name: AppName, revision: RevisionId) -> Arc<Self> {
        let state = State { revision, hosts: Box::default(), generation: 0, loading: Loading::No, held: None };
        Arc::new(Self {
            tenant,
            name,
            loaded: ArcSwapOption::empty(),
            used_ns: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    pub(super) fn name(&self) -> &AppName {
        &self.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What serves it now.
    pub(super) fn site(&self) -> Option<Arc<Site>> {
        self.loaded.load().as_ref().map(|loaded| loaded.revision.site().clone())
    }

    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.load_full()
    }

    /// Puts `loaded` into service, with the state locked; gives what was.
    pub(super) fn serve(&self, state: &mut State, loaded: Option<Arc<Loaded>>) -> Option<Arc<Loaded>> {
        state.generation += 1;
        self.loaded.swap(loaded)
    }

    /// Drops what serves it from memory, if it is still `loaded`.
    pub(super) fn unload(&self, loaded: &Arc<Loaded>) -> bool {
        let before = self.loaded.compare_and_swap(loaded, None);
        before.as_ref().is_some_and(|before| Arc::ptr_eq(before, loaded))
    }

    /// Resolves when requests for the app do not wait for a hold to end.
    pub(super) async fn not_held(&self) {
        loop {
            let held = self.state().held.clone();
            let Some(mut held) = held else { return };
            // Nothing is ever sent: the channel closes.
            let _ = held.changed().await;
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(super) fn set_stopped(&self, stopped: bool) {
        self.is_stopped.store(stopped, Ordering::Release);
    }

    pub(super) fn used_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed)
    }

    pub(super) fn use_at(&self, ns: u64) {
        self.used_ns.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use isomer_api::Quotas;

    use super::*;

    /// An app of no consequence.
    pub(crate) fn app(name: &str) -> Arc<App> {
        let tenant = Tenant::new("t".parse().unwrap(), &Quotas::default()).unwrap();
        App::new(tenant, name.parse().unwrap(), RevisionId::from([0; 16]))
    }
}
