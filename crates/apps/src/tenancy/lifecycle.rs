//! What one app serves, as a pure state machine: which revision it is to serve, which one is in memory, and whether it
//! is being loaded, held or stopped. No lock, no clock, no task.
//!
//! Events (a request, a finished load, a take-over, a stop) change the state, and the result determines what the caller
//! has to do. A query without an event in between has the same result: [`Lifecycle::enter`] requests a load until
//! [`Lifecycle::load_started`] records one. [`super::shared_lifecycle`] puts a lock around it.
//!
//! | state | what a request gets |
//! | --- | --- |
//! | stopped | a refusal |
//! | in memory | the revision in memory |
//! | held | a wait for the end of the hold |
//! | loading | a wait for the load |
//! | backing off after failed loads | a refusal until it is time to try again |
//! | none of these | a new load |
//!
//! **Generations.** A number counts up whenever the app is to serve something else. A load carries the number from when
//! it was decided on, and its result counts only if the number is still the same; otherwise the result is dropped, and
//! the revision that is wanted by then is loaded.
//!
//! The file is long because half of it is the property test of the state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an app that could not be loaded is not loaded again: after the first failure. The pause doubles with each
/// further failure.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two loads of an app that cannot be loaded.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The types of a [`Lifecycle`]: those of the tenancy, or those of a test.
pub(super) trait Types {
    /// Names a revision.
    type Revision: Clone + PartialEq;
    /// A revision in memory.
    type Loaded;
    /// What requests wait for while a revision is loaded.
    type PendingLoad: PendingLoad;
    /// What requests wait for while the app is held.
    type Hold: Clone;
    /// Tells whether requests still use a revision that left service.
    type Retired;

    /// Returns what tells whether requests still use `loaded`.
    fn retire(loaded: &Arc<Self::Loaded>) -> Self::Retired;

    /// Returns whether no request uses the retired revision any more.
    fn is_drained(retired: &Self::Retired) -> bool;
}

/// A load in progress, shared by all requests that wait for it.
pub(super) trait PendingLoad: Clone {
    /// Returns whether the task that loads has ended without a result.
    fn is_lost(&self) -> bool;
}

/// The state of one app.
pub(super) struct Lifecycle<T: Types> {
    /// The revision that the app is to serve.
    revision: T::Revision,
    /// The revision in memory, if one is in service.
    loaded: Option<Arc<T::Loaded>>,
    is_stopped: bool,
    generation: u64,
    load: LoadState<T::PendingLoad>,
    hold: Option<T::Hold>,
    /// Revisions that left service and may still have requests. Drained ones are removed when the next one is added.
    retired: Vec<T::Retired>,
}

enum LoadState<P> {
    Idle,
    Running(P),
    /// The last loads failed; the next one must not start before `until`.
    BackingOff {
        failures: u32,
        until: Instant,
    },
}

/// A load that was decided on.
pub(super) struct LoadTicket<T: Types> {
    /// The revision to load.
    pub(super) revision: T::Revision,
    generation: u64,
    /// How many loads in a row failed before.
    failures: u32,
}

/// What a request finds.
pub(super) enum Entry<T: Types> {
    /// The app is stopped.
    Stopped,
    /// The revision in service.
    Ready(Arc<T::Loaded>),
    /// The app is held.
    Held(T::Hold),
    /// The app is being loaded.
    Loading(T::PendingLoad),
    /// The last load failed, and it is too early to try again.
    Failed,
    /// The app has to be loaded: the caller starts this load and records it with [`Lifecycle::load_started`].
    MustLoad(LoadTicket<T>),
}

/// The result of loading a revision.
pub(super) enum LoadResult<T: Types> {
    /// The revision is in memory.
    Loaded(Arc<T::Loaded>),
    /// The revision could not be loaded now, for a reason that the app is not responsible for.
    Unavailable,
    /// The revision cannot be loaded.
    Failed,
}

/// What a finished load means for the requests that wait for it.
pub(super) enum LoadEnd<T: Types> {
    /// The loaded revision is in service.
    Serves(Arc<T::Loaded>),
    /// Another revision came into service while this one was loaded.
    Superseded(Arc<T::Loaded>),
    /// Another revision is to be served, and is not in memory: the caller loads it next, or calls
    /// [`Lifecycle::load_cancelled`].
    Reload(LoadTicket<T>),
    /// The app was stopped.
    Stopped,
    /// Nothing serves; the next request starts another load.
    Unavailable,
    /// The revision cannot be loaded.
    Failed,
}

/// The effect of a take-over.
pub(super) struct TakeOver<T: Types> {
    /// The revision that served before.
    pub(super) before: Option<Arc<T::Loaded>>,
    /// The new revision, if it did not come into service.
    pub(super) unused: Option<Arc<T::Loaded>>,
}

/// A hold on an app, to be given back to [`Lifecycle::release`].
pub(super) struct HoldToken<T: Types> {
    /// The revision that served before the hold.
    pub(super) before: Option<Arc<T::Loaded>>,
    generation: u64,
}

/// The effect of the end of a hold on the revision that served before it.
pub(super) enum Release<T: Types> {
    /// It is in service again.
    Restored,
    /// Another revision is in service, or is to be loaded.
    Replaced(Arc<T::Loaded>),
    /// There was none.
    Nothing,
}

impl<T: Types> Lifecycle<T> {
    /// An app that is to serve `revision`, which is not in memory.
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

    /// Returns what requests wait for, if the app is held.
    pub(super) fn held(&self) -> Option<&T::Hold> {
        self.hold.as_ref()
    }

    /// Returns what a request at `now` finds. Changes nothing.
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

    /// Records that the load of [`Entry::MustLoad`] was started.
    pub(super) fn load_started(&mut self, load: T::PendingLoad) {
        self.load = LoadState::Running(load);
    }

    /// Applies the result of a load that ended at `now`. The second value is a loaded revision that does not come into
    /// service.
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
        // The waiting requests did not ask for a certain revision: they wait on.
        (LoadEnd::Reload(self.ticket(0)), unused)
    }

    /// Records that the load of [`LoadEnd::Reload`] is not started.
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

    /// Takes `loaded` out of service to free memory, if it is in service: the next request loads the same revision.
    pub(super) fn evict(&mut self, loaded: &Arc<T::Loaded>) -> bool {
        let evicted = self.loaded.take_if(|current| Arc::ptr_eq(current, loaded)).is_some();
        if evicted {
            // A request may have found it just now.
            self.retire(loaded);
        }
        evicted
    }

    /// Has the app serve `revision` from its next request on, and stops or resumes it. Returns the revision that leaves
    /// service.
    pub(super) fn put(&mut self, revision: &T::Revision, is_stopped: bool) -> Option<Arc<T::Loaded>> {
        self.is_stopped = is_stopped;
        if self.revision == *revision && !is_stopped {
            return None;
        }
        self.revision = revision.clone();
        self.serve(None)
    }

    /// Puts `loaded` into service, unless the app is stopped or what it was started with is not current: then the next
    /// request loads `revision`.
    pub(super) fn take_over(&mut self, revision: T::Revision, loaded: Arc<T::Loaded>, is_current: bool) -> TakeOver<T> {
        self.revision = revision;
        if is_current && !self.is_stopped {
            TakeOver { before: self.serve(Some(loaded)), unused: None }
        } else {
            TakeOver { before: self.serve(None), unused: Some(loaded) }
        }
    }

    /// Refuses requests from now on. Returns the revision that leaves service.
    pub(super) fn stop(&mut self) -> Option<Arc<T::Loaded>> {
        self.is_stopped = true;
        self.serve(None)
    }

    /// Ends [`Lifecycle::stop`].
    pub(super) fn resume(&mut self) {
        self.is_stopped = false;
    }

    /// Has the next request load the revision again, because what it is started with has changed. Returns the revision
    /// that leaves service.
    pub(super) fn unload(&mut self) -> Option<Arc<T::Loaded>> {
        self.serve(None)
    }

    /// Has requests wait for `hold` from now on.
    pub(super) fn hold(&mut self, hold: T::Hold) -> HoldToken<T> {
        let before = self.swap(None);
        self.hold = Some(hold);
        HoldToken { before, generation: self.generation }
    }

    /// Ends [`Lifecycle::hold`].
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

    /// Returns whether no revision that left service has requests any more. The revision in service does not count, nor
    /// does one that a hold keeps.
    pub(super) fn is_drained(&mut self) -> bool {
        self.retired.retain(|retired| !T::is_drained(retired));
        self.retired.is_empty()
    }

    /// Puts a revision, or none, into service because of a change; failures of the earlier revision are forgotten.
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
    /// The same load, as if it had been decided on just now: a mistake that the model plants.
    pub(super) fn renewed(self, lifecycle: &Lifecycle<T>) -> Self {
        Self { generation: lifecycle.generation, ..self }
    }
}

#[cfg(test)]
mod tests;
