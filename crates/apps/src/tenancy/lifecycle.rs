//! The lifecycle of one app as a pure state machine: the revision that the app is to serve, the revision in memory, and
//! whether the app is being loaded, held or stopped. The state machine has no lock, no clock and no task.
//!
//! Events (a request, a finished load, a take-over, a stop) change the state, and the result of an event tells the
//! caller what to do. [`Lifecycle::enter`] is a query: it does not change the state, and returns [`Entry::MustLoad`]
//! each time until [`Lifecycle::load_started`] records that the load was started. [`super::shared_lifecycle`] puts the
//! state machine behind a lock.
//!
//! | state | what happens to a request |
//! | --- | --- |
//! | stopped | it is refused |
//! | in memory | it uses the revision in memory |
//! | held | it waits for the end of the hold |
//! | loading | it waits for the load |
//! | backing off after failed loads | it is refused until the pause is over |
//! | none of these | it starts a load |
//!
//! **Generations.** The generation is a number that is incremented whenever the revision in service, or the revision
//! that the app is to serve, changes. A load records the generation at which it was requested. If the generation has
//! not changed when the load ends, the loaded revision is put into service. Otherwise the loaded revision is dropped,
//! and the revision that the app is to serve now is loaded.
//!
//! The file is long because half of it is the property test of the state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause after the first failed load of an app, in which the app is not loaded again. Each further failure doubles
/// the pause.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The maximum pause after a failed load.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The types with which a [`Lifecycle`] is instantiated: those of the tenancy, or those of a test.
pub(super) trait Types {
    /// The name of a revision.
    type Revision: Clone + PartialEq;
    /// A revision that is in memory.
    type Loaded;
    /// A load in progress, on which requests wait.
    type PendingLoad: PendingLoad;
    /// A hold in progress, on which requests wait.
    type Hold: Clone;
    /// A reference to a revision that left service, which shows whether requests still use the revision.
    type Retired;

    /// Returns a reference that shows whether requests still use `loaded`.
    fn retire(loaded: &Arc<Self::Loaded>) -> Self::Retired;

    /// Returns whether no request uses the retired revision any more.
    fn is_drained(retired: &Self::Retired) -> bool;
}

/// A load in progress, shared by all requests that wait for it.
pub(super) trait PendingLoad: Clone {
    /// Returns whether the loading task has ended without a result.
    fn is_lost(&self) -> bool;
}

/// The state of one app.
pub(super) struct Lifecycle<T: Types> {
    /// The revision that the app is to serve.
    revision: T::Revision,
    /// The revision in service; `None` if no revision is in service.
    loaded: Option<Arc<T::Loaded>>,
    is_stopped: bool,
    generation: u64,
    load: LoadState<T::PendingLoad>,
    hold: Option<T::Hold>,
    /// Revisions that left service and may still have requests in flight. Drained revisions are removed when another
    /// revision is added.
    retired: Vec<T::Retired>,
}

enum LoadState<P> {
    Idle,
    Running(P),
    /// The last load failed. Another load must not start before `until`.
    BackingOff {
        failures: u32,
        until: Instant,
    },
}

/// A requested load.
pub(super) struct LoadTicket<T: Types> {
    /// The revision to load.
    pub(super) revision: T::Revision,
    generation: u64,
    /// The number of consecutive failed loads before this load.
    failures: u32,
}

/// The state of the app at the arrival of a request.
pub(super) enum Entry<T: Types> {
    /// The app is stopped.
    Stopped,
    /// This revision is in service.
    Ready(Arc<T::Loaded>),
    /// A hold makes new requests wait, for example while the app's stores are replaced. The request waits for the end
    /// of the hold.
    Held(T::Hold),
    /// The app is being loaded, and the request waits for the load.
    Loading(T::PendingLoad),
    /// The last load failed, and the pause after the failure is not over.
    Failed,
    /// The app has to be loaded: the caller starts this load and records it with [`Lifecycle::load_started`].
    MustLoad(LoadTicket<T>),
}

/// The result of loading a revision.
pub(super) enum LoadResult<T: Types> {
    /// The revision is in memory.
    Loaded(Arc<T::Loaded>),
    /// The revision cannot be loaded at the moment, for a reason that is not the app's fault.
    Unavailable,
    /// The revision cannot be loaded.
    Failed,
}

/// The outcome of a load for the requests that waited for it.
pub(super) enum LoadEnd<T: Types> {
    /// The loaded revision, which is in service now.
    Serves(Arc<T::Loaded>),
    /// Another revision, which came into service during the load.
    Superseded(Arc<T::Loaded>),
    /// No outcome yet: the app is to serve another revision, which is not in memory, so the requests continue to wait.
    /// The caller must start this load, or give up and call [`Lifecycle::load_cancelled`].
    Reload(LoadTicket<T>),
    /// The app was stopped, so the waiting requests are refused.
    Stopped,
    /// The revision cannot be loaded at the moment, so the waiting requests are refused. The next request starts
    /// another load.
    Unavailable,
    /// The revision cannot be loaded, so the waiting requests are refused.
    Failed,
}

/// The result of a take-over.
pub(super) struct TakeOver<T: Types> {
    /// The revision that was in service before, if any.
    pub(super) before: Option<Arc<T::Loaded>>,
    /// The new revision, if it did not come into service.
    pub(super) unused: Option<Arc<T::Loaded>>,
}

/// The token of a hold on an app. [`Lifecycle::release`] takes the token and ends the hold.
pub(super) struct HoldToken<T: Types> {
    /// The revision that was in service when the hold started; `None` if no revision was in service.
    pub(super) before: Option<Arc<T::Loaded>>,
    generation: u64,
}

/// The result of ending a hold: what becomes of the revision that was in service before the hold.
pub(super) enum Release<T: Types> {
    /// The revision is in service again.
    Restored,
    /// The app was changed during the hold, so the revision stays out of service.
    Replaced(Arc<T::Loaded>),
    /// No revision was in service when the hold started, so there is none to restore.
    Nothing,
}

impl<T: Types> Lifecycle<T> {
    /// Creates the lifecycle of an app that is to serve `revision`, which is not in memory.
    pub(super) fn new(revision: T::Revision) -> Self {
        Self {
            revision,
            loaded: None,
            is_stopped: false,
            generation: 0,
            load: LoadState::Idle,
            hold: None,
            retired: Vec::new(),
        }
    }

    /// Returns the revision in service.
    pub(super) fn loaded(&self) -> Option<&Arc<T::Loaded>> {
        self.loaded.as_ref()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Returns the hold on which requests wait, if the app is held.
    pub(super) fn held(&self) -> Option<&T::Hold> {
        self.hold.as_ref()
    }

    /// Returns the state of the app for a request at `now`. Changes nothing.
    pub(super) fn enter(&self, now: Instant) -> Entry<T> {
        if self.is_stopped {
            return Entry::Stopped;
        }
        if let Some(loaded) = &self.loaded {
            return Entry::Ready(loaded.clone());
        }
        if let Some(hold) = &self.hold {
            return Entry::Held(hold.clone());
        }
        match &self.load {
            LoadState::Running(load) if !load.is_lost() => Entry::Loading(load.clone()),
            LoadState::BackingOff { until, .. } if now < *until => Entry::Failed,
            LoadState::BackingOff { failures, .. } => Entry::MustLoad(self.ticket(*failures)),
            LoadState::Idle | LoadState::Running(_) => Entry::MustLoad(self.ticket(0)),
        }
    }

    /// Records that the load that [`Entry::MustLoad`] requires was started.
    pub(super) fn load_started(&mut self, load: T::PendingLoad) {
        self.load = LoadState::Running(load);
    }

    /// Applies the result of a load that ended at `now`. Returns the outcome for the requests that wait for the load,
    /// and the loaded revision if it does not come into service.
    pub(super) fn load_finished(
        &mut self,
        ticket: &LoadTicket<T>,
        result: LoadResult<T>,
        now: Instant,
    ) -> (LoadEnd<T>, Option<Arc<T::Loaded>>) {
        if self.generation == ticket.generation {
            return (self.finish_current_load(ticket.failures, result, now), None);
        }
        let unused = match result {
            LoadResult::Loaded(loaded) => Some(loaded),
            LoadResult::Unavailable | LoadResult::Failed => None,
        };
        if let Some(loaded) = self.loaded.clone() {
            self.load = LoadState::Idle;
            return (LoadEnd::Superseded(loaded), unused);
        }
        if self.is_stopped {
            self.load = LoadState::Idle;
            return (LoadEnd::Stopped, unused);
        }
        // The waiting requests did not request a specific revision, so they wait for the next load.
        (LoadEnd::Reload(self.ticket(0)), unused)
    }

    /// Records that the load that [`LoadEnd::Reload`] requires will not be started, so that the next request starts a
    /// load.
    pub(super) fn load_cancelled(&mut self) {
        self.load = LoadState::Idle;
    }

    fn finish_current_load(&mut self, failures: u32, result: LoadResult<T>, now: Instant) -> LoadEnd<T> {
        match result {
            LoadResult::Loaded(loaded) => {
                self.load = LoadState::Idle;
                self.replace(Some(loaded.clone()));
                LoadEnd::Serves(loaded)
            }
            LoadResult::Unavailable => {
                self.load = LoadState::Idle;
                LoadEnd::Unavailable
            }
            LoadResult::Failed => {
                let until = now + retry_pause(failures);
                self.load = LoadState::BackingOff { failures: failures.saturating_add(1), until };
                LoadEnd::Failed
            }
        }
    }

    /// Takes `loaded` out of service to free memory. The next request loads the same revision again. Returns `false`
    /// and changes nothing if `loaded` is not in service.
    pub(super) fn evict(&mut self, loaded: &Arc<T::Loaded>) -> bool {
        let evicted = self.loaded.take_if(|current| Arc::ptr_eq(current, loaded)).is_some();
        if evicted {
            // A request may already have a reference to the revision, so `is_drained` must still check it.
            self.retire(loaded);
        }
        evicted
    }

    /// Sets the revision that the app serves from the next request on, and whether the app is stopped. Returns the
    /// revision that leaves service, if any.
    pub(super) fn put(&mut self, revision: &T::Revision, is_stopped: bool) -> Option<Arc<T::Loaded>> {
        self.is_stopped = is_stopped;
        if self.revision == *revision && !is_stopped {
            return None;
        }
        self.revision = revision.clone();
        self.serve(None)
    }

    /// Puts `loaded` into service, unless the app is stopped or `is_current` is false. `is_current` is false if the
    /// inputs with which `loaded` was started have changed. If `loaded` is not put into service, a later request loads
    /// `revision` again.
    pub(super) fn take_over(&mut self, revision: T::Revision, loaded: Arc<T::Loaded>, is_current: bool) -> TakeOver<T> {
        self.revision = revision;
        if is_current && !self.is_stopped {
            TakeOver { before: self.serve(Some(loaded)), unused: None }
        } else {
            TakeOver { before: self.serve(None), unused: Some(loaded) }
        }
    }

    /// Refuses requests from now on. Returns the revision that leaves service, if any.
    pub(super) fn stop(&mut self) -> Option<Arc<T::Loaded>> {
        self.is_stopped = true;
        self.serve(None)
    }

    /// Allows requests again after [`Lifecycle::stop`].
    pub(super) fn resume(&mut self) {
        self.is_stopped = false;
    }

    /// Takes the revision out of service, so that the next request loads it again. Called if an input with which the
    /// revision was started has changed. Returns the revision that leaves service, if any.
    pub(super) fn unload(&mut self) -> Option<Arc<T::Loaded>> {
        self.serve(None)
    }

    /// Makes requests wait for `hold` from now on.
    pub(super) fn hold(&mut self, hold: T::Hold) -> HoldToken<T> {
        let before = self.swap(None);
        self.hold = Some(hold);
        HoldToken { before, generation: self.generation }
    }

    /// Ends the hold that [`Lifecycle::hold`] started.
    pub(super) fn release(&mut self, token: HoldToken<T>) -> Release<T> {
        self.hold = None;
        let Some(before) = token.before else { return Release::Nothing };
        if self.generation != token.generation || self.is_stopped {
            self.retire(&before);
            return Release::Replaced(before);
        }
        self.swap(Some(before));
        Release::Restored
    }

    /// Returns whether all requests of the revisions that left service have finished. Ignores the revision in service,
    /// and the revision that may be put back into service when a hold ends.
    pub(super) fn is_drained(&mut self) -> bool {
        self.retired.retain(|retired| !T::is_drained(retired));
        self.retired.is_empty()
    }

    /// Puts `loaded` into service after a change of the app. If `loaded` is `None`, no revision is in service
    /// afterwards. Forgets failed loads. Returns the revision that leaves service, if any.
    fn serve(&mut self, loaded: Option<Arc<T::Loaded>>) -> Option<Arc<T::Loaded>> {
        if !matches!(self.load, LoadState::Running(_)) {
            self.load = LoadState::Idle;
        }
        self.replace(loaded)
    }

    fn replace(&mut self, loaded: Option<Arc<T::Loaded>>) -> Option<Arc<T::Loaded>> {
        self.swap(loaded).inspect(|before| self.retire(before))
    }

    fn swap(&mut self, loaded: Option<Arc<T::Loaded>>) -> Option<Arc<T::Loaded>> {
        self.generation += 1;
        std::mem::replace(&mut self.loaded, loaded)
    }

    fn retire(&mut self, before: &Arc<T::Loaded>) {
        self.retired.retain(|retired| !T::is_drained(retired));
        self.retired.push(T::retire(before));
    }

    fn ticket(&self, failures: u32) -> LoadTicket<T> {
        LoadTicket { revision: self.revision.clone(), generation: self.generation, failures }
    }
}

fn retry_pause(failures: u32) -> Duration {
    RETRY_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(RETRY_PAUSE_MAX)
}

#[cfg(test)]
impl<T: Types> LoadTicket<T> {
    /// Returns the same load with the current generation, as if it were requested now. With this method, the `model`
    /// tests simulate an implementation that does not compare generations, and check that they detect this mistake.
    pub(super) fn renewed(self, lifecycle: &Lifecycle<T>) -> Self {
        Self { generation: lifecycle.generation, ..self }
    }
}

#[cfg(test)]
mod tests;
