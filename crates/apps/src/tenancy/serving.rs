//! What an app serves, and every decision about it: what a request finds, who loads, which load counts, what takes over, what is held or stopped.
//!
//! Nothing here waits, reads a clock or does anything that is slow: callers do that between two calls. What is decided is decided under one
//! lock; what serves is read without it.
//!
//! **Generations.** Whenever something else is to be served, a number counts up. A load carries the number that was there when it was decided on, and
//! its result counts only if the number is still the same; else it is dropped, and what is recorded by then is loaded.
//!
//! `model` compiles this very file a second time over primitives that try out schedules, and drives it with racing requests, loads,
//! deployments, secrets, stops and evictions. So it uses no synchronisation but that of `super::sync`, and knows no type of the tenancy.

use std::sync::Arc;
use std::time::Instant;

use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError, Slot};

/// What [`Serving`] is about.
pub(super) trait Kinds {
    /// Names a revision.
    type Revision: Clone + PartialEq;
    /// A revision in memory.
    type Loaded;
    /// What requests wait for while it is loaded.
    type Outcome: Awaited;
    /// What requests wait for while the app is held.
    type Hold: Clone;
    /// Tells of something that serves no longer whether requests still use it.
    type Retired;
    /// What else is kept under the lock.
    type Kept;

    /// See [`Kinds::Retired`].
    fn retire(loaded: &Arc<Self::Loaded>) -> Self::Retired;

    /// Whether no request uses it any more.
    fn is_over(retired: &Self::Retired) -> bool;
}

/// Something to wait for, which all that wait share.
pub(super) trait Awaited: Clone {
    /// Whether it will never come: the task that was to bring it has ended without it.
    fn is_lost(&self) -> bool;
}

/// What one app serves.
pub(super) struct Serving<K: Kinds> {
    loaded: Slot<K::Loaded>,
    is_stopped: AtomicBool,
    state: Mutex<State<K>>,
}

struct State<K: Kinds> {
    revision: K::Revision,
    /// Counts up whenever something else is to be served: what was begun before does not count then.
    generation: u64,
    loading: Loading<K::Outcome>,
    held: Option<K::Hold>,
    /// What served before and may still have requests: those that have none are forgotten with the next that is added.
    retired: Vec<K::Retired>,
    kept: K::Kept,
}

/// Is it on its way into memory?
enum Loading<O> {
    No,
    /// All requests that come wait for the same.
    Begun(O),
    /// It failed some times in a row, and is not tried again before then.
    Failed {
        times: u32,
        until: Instant,
    },
}

/// What does not serve any more, or never will, if there is something.
type Left<K> = Option<Arc<<K as Kinds>::Loaded>>;

/// What is out of service after something took over.
pub(super) struct Replaced<K: Kinds> {
    /// What served before.
    pub(super) before: Left<K>,
    /// What was to take over, where it did not.
    pub(super) unused: Left<K>,
}

/// A load that was decided on.
pub(super) struct Ticket<K: Kinds> {
    /// What is to be loaded.
    pub(super) revision: K::Revision,
    generation: u64,
    /// How often in a row it failed before.
    failures: u32,
}

/// What a request finds.
pub(super) enum Entry<K: Kinds> {
    /// The app is stopped.
    Stopped,
    /// This serves it.
    Ready(Arc<K::Loaded>),
    /// Its requests wait.
    Held(K::Hold),
    /// It is being loaded.
    Loading(K::Outcome),
    /// It could not be loaded, and it is too early to try again.
    Broken,
}

/// What comes of making what a ticket is for.
pub(super) enum Brought<K: Kinds> {
    /// It can serve.
    Loaded(Arc<K::Loaded>),
    /// It could not be made now, which is not the app's fault.
    NotNow,
    /// It cannot be made.
    Failed,
}

/// What a load's end means for all that wait for it.
pub(super) enum Ended<K: Kinds, A> {
    /// What was loaded serves.
    Serves(Arc<K::Loaded>),
    /// Something else serves by now.
    Overtaken(Arc<K::Loaded>),
    /// Something else is to be served that is not in memory: that is to be loaded, by what was given to do so.
    Again(Ticket<K>, A),
    /// The app was stopped.
    Stopped,
    /// Nothing serves: the next request tries again.
    NotNow,
    /// It could not be loaded.
    Failed,
}

/// An app whose requests wait.
pub(super) struct Holding<K: Kinds> {
    /// What served it before.
    pub(super) before: Option<Arc<K::Loaded>>,
    generation: u64,
}

/// What the end of a hold means for what served before it.
pub(super) enum Released<K: Kinds> {
    /// It serves again.
    Serves,
    /// Something else does, or is to.
    Replaced(Arc<K::Loaded>),
    /// Nothing served.
    Nothing,
}

/// An app while decisions about it are made.
pub(super) struct Locked<'a, K: Kinds> {
    serving: &'a Serving<K>,
    state: MutexGuard<'a, State<K>>,
}

impl<K: Kinds> Serving<K> {
    /// Nothing is in memory.
    pub(super) fn new(revision: K::Revision, kept: K::Kept) -> Self {
        let state = State { revision, generation: 0, loading: Loading::No, held: None, retired: Vec::new(), kept };
        Self { loaded: Slot::empty(), is_stopped: AtomicBool::new(false), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> Locked<'_, K> {
        Locked { serving: self, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// What serves it now.
    pub(super) fn loaded(&self) -> Option<Arc<K::Loaded>> {
        self.loaded.load()
    }

    /// Something of what serves it now.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Arc<K::Loaded>) -> T) -> Option<T> {
        self.loaded.read(read)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// What the app's requests wait for, if it is held.
    pub(super) fn held(&self) -> Option<K::Hold> {
        self.lock().state.held.clone()
    }

    /// What a request finds. If the app is to be loaded, `begin` begins that: all requests that come wait for what it returns. It is called under the
    /// lock, and must not use the app.
    ///
    /// # Errors
    /// With that of `begin`; then nothing was begun.
    pub(super) fn enter<E>(
        &self,
        now: Instant,
        begin: impl FnOnce(Ticket<K>) -> Result<K::Outcome, E>,
    ) -> Result<Entry<K>, E> {
        let mut locked = self.lock();
        if self.is_stopped() {
            return Ok(Entry::Stopped);
        }
        if let Some(loaded) = self.loaded() {
            return Ok(Entry::Ready(loaded));
        }
        let state = &mut *locked.state;
        if let Some(held) = &state.held {
            return Ok(Entry::Held(held.clone()));
        }
        let failures = match &state.loading {
            Loading::Begun(outcome) if !outcome.is_lost() => return Ok(Entry::Loading(outcome.clone())),
            Loading::Failed { until, .. } if now < *until => return Ok(Entry::Broken),
            Loading::Failed { times, .. } => *times,
            Loading::No | Loading::Begun(_) => 0,
        };
        let outcome = begin(state.ticket(failures))?;
        state.loading = Loading::Begun(outcome.clone());
        Ok(Entry::Loading(outcome))
    }

    /// A load has ended. If what it was to bring is not wanted any more, and `again` gives something to do it with, what is wanted is loaded
    /// next; `until` says when to try again after so many failures in a row. What is given back besides is not used.
    pub(super) fn ended<A>(
        &self,
        ticket: &Ticket<K>,
        brought: Brought<K>,
        until: impl FnOnce(u32) -> Instant,
        again: impl FnOnce() -> Option<A>,
    ) -> (Ended<K, A>, Left<K>) {
        let mut locked = self.lock();
        if locked.state.generation == ticket.generation {
            return (locked.ended_as_wanted(ticket.failures, brought, until), None);
        }
        let unused = match brought {
            Brought::Loaded(loaded) => Some(loaded),
            Brought::NotNow | Brought::Failed => None,
        };
        let ended = match self.loaded() {
            Some(loaded) => Ended::Overtaken(loaded),
            None if self.is_stopped() => Ended::Stopped,
            None => match again() {
                // Those that wait did not ask for a certain revision: they wait on.
                Some(again) => return (Ended::Again(locked.state.ticket(0), again), unused),
                None => Ended::NotNow,
            },
        };
        locked.state.loading = Loading::No;
        (ended, unused)
    }

    /// Drops what serves from memory, if it is still `loaded`: the next request loads the same.
    pub(super) fn evict(&self, loaded: &Arc<K::Loaded>) -> bool {
        let mut locked = self.lock();
        let evicted = self.loaded.take_if(loaded);
        if evicted {
            // A request may have come just now.
            locked.retire(loaded);
        }
        evicted
    }

    /// Whether nothing that served before has requests any more. What serves now is not looked at, nor what a hold has set aside.
    pub(super) fn is_drained(&self) -> bool {
        let mut locked = self.lock();
        locked.state.retired.retain(|retired| !K::is_over(retired));
        locked.state.retired.is_empty()
    }
}

impl<K: Kinds> Locked<'_, K> {
    /// What else is kept under the lock.
    pub(super) fn kept(&mut self) -> &mut K::Kept {
        &mut self.state.kept
    }

    /// The app is to serve `revision`, from the next request on. Returns what served and serves no longer.
    pub(super) fn put(&mut self, revision: &K::Revision, stopped: bool) -> Option<Arc<K::Loaded>> {
        self.serving.is_stopped.store(stopped, Ordering::Release);
        if self.state.revision == *revision && !stopped {
            return None;
        }
        self.state.revision = revision.clone();
        self.serve(None)
    }

    /// `loaded` serves, if what it was made of `is_current` and the app is not stopped: else `revision` is loaded by its next request.
    pub(super) fn take_over(
        &mut self,
        revision: K::Revision,
        loaded: Arc<K::Loaded>,
        is_current: impl FnOnce() -> bool,
    ) -> Replaced<K> {
        self.state.revision = revision;
        // What is changed after this has the app unloaded after this, too: that takes the same lock.
        if is_current() && !self.serving.is_stopped() {
            Replaced { before: self.serve(Some(loaded)), unused: None }
        } else {
            Replaced { before: self.serve(None), unused: Some(loaded) }
        }
    }

    /// Requests are refused. Returns what served.
    pub(super) fn stop(&mut self) -> Option<Arc<K::Loaded>> {
        self.serving.is_stopped.store(true, Ordering::Release);
        self.serve(None)
    }

    /// The end of [`Locked::stop`].
    pub(super) fn resume(&mut self) {
        self.serving.is_stopped.store(false, Ordering::Release);
    }

    /// What it is started from has changed: the next request loads it anew. Returns what served.
    pub(super) fn unload(&mut self) -> Option<Arc<K::Loaded>> {
        self.serve(None)
    }

    /// Requests wait from now on, for `hold`.
    pub(super) fn hold(&mut self, hold: K::Hold) -> Holding<K> {
        let before = self.swap(None);
        self.state.held = Some(hold);
        Holding { before, generation: self.state.generation }
    }

    /// The end of [`Locked::hold`].
    pub(super) fn release(&mut self, holding: Holding<K>) -> Released<K> {
        self.state.held = None;
        let Some(before) = holding.before else { return Released::Nothing };
        if self.state.generation != holding.generation || self.serving.is_stopped() {
            self.retire(&before);
            return Released::Replaced(before);
        }
        self.swap(Some(before));
        Released::Serves
    }

    fn ended_as_wanted<A>(
        &mut self,
        failures: u32,
        brought: Brought<K>,
        until: impl FnOnce(u32) -> Instant,
    ) -> Ended<K, A> {
        match brought {
            Brought::Loaded(loaded) => {
                self.state.loading = Loading::No;
                self.replace(Some(loaded.clone()));
                Ended::Serves(loaded)
            }
            Brought::NotNow => {
                self.state.loading = Loading::No;
                Ended::NotNow
            }
            Brought::Failed => {
                self.state.loading = Loading::Failed { times: failures.saturating_add(1), until: until(failures) };
                Ended::Failed
            }
        }
    }

    /// Puts something into service that a change has asked for, or nothing. A failure of what was to be served before is forgotten.
    fn serve(&mut self, loaded: Option<Arc<K::Loaded>>) -> Option<Arc<K::Loaded>> {
        if !matches!(self.state.loading, Loading::Begun(_)) {
            self.state.loading = Loading::No;
        }
        self.replace(loaded)
    }

    fn replace(&mut self, loaded: Option<Arc<K::Loaded>>) -> Option<Arc<K::Loaded>> {
        self.swap(loaded).inspect(|before| self.retire(before))
    }

    fn swap(&mut self, loaded: Option<Arc<K::Loaded>>) -> Option<Arc<K::Loaded>> {
        self.state.generation += 1;
        self.serving.loaded.swap(loaded)
    }

    fn retire(&mut self, before: &Arc<K::Loaded>) {
        self.state.retired.retain(|retired| !K::is_over(retired));
        self.state.retired.push(K::retire(before));
    }
}

impl<K: Kinds> State<K> {
    fn ticket(&self, failures: u32) -> Ticket<K> {
        Ticket { revision: self.revision.clone(), generation: self.generation, failures }
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "the model plants a mistake with it")]
impl<K: Kinds> Ticket<K> {
    /// The same load, as if it had been decided on just now.
    pub(super) fn renewed(self, serving: &Serving<K>) -> Self {
        Self { generation: serving.lock().state.generation, ..self }
    }
}
