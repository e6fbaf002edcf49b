//! An app's [`Lifecycle`], shared by requests and administration. Every decision is made under one lock, but requests
//! read the revision in service without the lock.
//!
//! `model` compiles this file a second time with shuttle's synchronization primitives, and runs it with racing
//! requests, loads, deployments, changes of secrets, stops and evictions. So this file uses only the primitives of
//! `super::sync`, and no other type of the tenancy.

use std::sync::Arc;
use std::time::Instant;

use super::lifecycle::{Entry, HoldToken, Lifecycle, LoadEnd, LoadResult, LoadTicket, Release, TakeOver, Types};
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError, Slot};

/// A lifecycle behind a lock, with a copy of the values that requests read. `D` is the type of other data that the same
/// lock protects.
pub(super) struct SharedLifecycle<T: Types, D> {
    /// A copy of the revision in service, for readers without the lock. Written only under the lock.
    in_service: Slot<T::Loaded>,
    is_stopped: AtomicBool,
    state: Mutex<State<T, D>>,
}

struct State<T: Types, D> {
    lifecycle: Lifecycle<T>,
    data: D,
}

/// The state of the app for a request, like [`Entry`]. If the app had to be loaded, the load was already started.
pub(super) enum EntryAfterLoad<T: Types> {
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
}

/// A lifecycle whose lock is held.
pub(super) struct LockedLifecycle<'a, T: Types, D> {
    shared: &'a SharedLifecycle<T, D>,
    state: MutexGuard<'a, State<T, D>>,
}

impl<T: Types, D> SharedLifecycle<T, D> {
    /// Creates the lifecycle of an app that is to serve `revision`, which is not in memory.
    pub(super) fn new(revision: T::Revision, data: D) -> Self {
        let state = State { lifecycle: Lifecycle::new(revision), data };
        Self { in_service: Slot::empty(), is_stopped: AtomicBool::new(false), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> LockedLifecycle<'_, T, D> {
        LockedLifecycle { shared: self, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Returns the revision in service.
    pub(super) fn loaded(&self) -> Option<Arc<T::Loaded>> {
        self.in_service.load()
    }

    /// Calls `read` with the revision in service, and returns the result of `read`. Returns `None` if no revision is in
    /// service.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Arc<T::Loaded>) -> R) -> Option<R> {
        self.in_service.read(read)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Returns the hold for whose end requests wait, if the app is held.
    pub(super) fn held(&self) -> Option<T::Hold> {
        self.lock().state.lifecycle.held().cloned()
    }

    /// Returns the state of the app for a request. If the app has to be loaded, calls `start`, which starts the load
    /// and returns the value with which requests wait for the load. Later requests wait for the same load. `start` is
    /// called under the lock of the lifecycle, so it must not call methods of this lifecycle.
    ///
    /// # Errors
    /// The error of `start`, if it could not start the load.
    pub(super) fn enter<E>(
        &self,
        now: Instant,
        start: impl FnOnce(LoadTicket<T>) -> Result<T::PendingLoad, E>,
    ) -> Result<EntryAfterLoad<T>, E> {
        let mut locked = self.lock();
        Ok(match locked.state.lifecycle.enter(now) {
            Entry::Stopped => EntryAfterLoad::Stopped,
            Entry::Ready(loaded) => EntryAfterLoad::Ready(loaded),
            Entry::Held(hold) => EntryAfterLoad::Held(hold),
            Entry::Loading(load) => EntryAfterLoad::Loading(load),
            Entry::Failed => EntryAfterLoad::Failed,
            Entry::MustLoad(ticket) => {
                let load = start(ticket)?;
                locked.state.lifecycle.load_started(load.clone());
                EntryAfterLoad::Loading(load)
            }
        })
    }

    /// Takes `loaded` out of service. The next request loads the same revision again. Returns `false` and changes
    /// nothing if `loaded` is not in service.
    pub(super) fn evict(&self, loaded: &Arc<T::Loaded>) -> bool {
        self.lock().change(|lifecycle| lifecycle.evict(loaded))
    }

    /// Returns whether all requests of the revisions that left service have finished.
    pub(super) fn is_drained(&self) -> bool {
        self.lock().state.lifecycle.is_drained()
    }
}

impl<T: Types, D> LockedLifecycle<'_, T, D> {
    /// Returns the data that the lock protects.
    pub(super) fn data(&mut self) -> &mut D {
        &mut self.state.data
    }

    /// See [`Lifecycle::load_finished`].
    pub(super) fn load_finished(
        &mut self,
        ticket: &LoadTicket<T>,
        result: LoadResult<T>,
        now: Instant,
    ) -> (LoadEnd<T>, Option<Arc<T::Loaded>>) {
        self.change(|lifecycle| lifecycle.load_finished(ticket, result, now))
    }

    /// See [`Lifecycle::load_cancelled`].
    pub(super) fn load_cancelled(&mut self) {
        self.change(Lifecycle::load_cancelled);
    }

    /// See [`Lifecycle::put`].
    pub(super) fn put(&mut self, revision: &T::Revision, is_stopped: bool) -> Option<Arc<T::Loaded>> {
        self.change(|lifecycle| lifecycle.put(revision, is_stopped))
    }

    /// Like [`Lifecycle::take_over`], but calls `is_current` under the lock, to check that the revision was started
    /// with the current inputs. If an input changes after this check, the app's revision is taken out of service under
    /// the same lock, and so after the take-over. Therefore, no revision with an old input stays in service.
    pub(super) fn take_over(
        &mut self,
        revision: T::Revision,
        loaded: Arc<T::Loaded>,
        is_current: impl FnOnce() -> bool,
    ) -> TakeOver<T> {
        let is_current = is_current();
        self.change(|lifecycle| lifecycle.take_over(revision, loaded, is_current))
    }

    /// See [`Lifecycle::stop`].
    pub(super) fn stop(&mut self) -> Option<Arc<T::Loaded>> {
        self.change(Lifecycle::stop)
    }

    /// See [`Lifecycle::resume`].
    pub(super) fn resume(&mut self) {
        self.change(Lifecycle::resume);
    }

    /// See [`Lifecycle::unload`].
    pub(super) fn unload(&mut self) -> Option<Arc<T::Loaded>> {
        self.change(Lifecycle::unload)
    }

    /// See [`Lifecycle::hold`].
    pub(super) fn hold(&mut self, hold: T::Hold) -> HoldToken<T> {
        self.change(|lifecycle| lifecycle.hold(hold))
    }

    /// See [`Lifecycle::release`].
    pub(super) fn release(&mut self, token: HoldToken<T>) -> Release<T> {
        self.change(|lifecycle| lifecycle.release(token))
    }

    #[cfg(test)]
    #[allow(dead_code, reason = "used by the model only")]
    pub(super) fn lifecycle(&self) -> &Lifecycle<T> {
        &self.state.lifecycle
    }

    /// Changes the lifecycle, and updates the copies that requests read without the lock.
    fn change<R>(&mut self, change: impl FnOnce(&mut Lifecycle<T>) -> R) -> R {
        let changed = change(&mut self.state.lifecycle);
        let lifecycle = &self.state.lifecycle;
        self.shared.is_stopped.store(lifecycle.is_stopped(), Ordering::Release);
        self.shared.in_service.set(lifecycle.loaded());
        changed
    }
}
