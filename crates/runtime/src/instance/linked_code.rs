//! The code of a group, linked with host functions: the plain code, and the probed code that sampled requests run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use isomer_telemetry::SpanContext;
use wasmtime::component::InstancePre;

use super::exports::{DispatchExport, HandlerIndex};
use crate::clock::now;
use crate::code::Code;
use crate::guest::Guest;
use crate::pool::Slots;

/// Compiled code with the host functions that it imports, ready to be instantiated.
pub(crate) struct LinkedCode {
    /// Held so that other groups that load the same code share its mapping.
    pub(crate) _code: Code,
    /// Whether the code reports calls over fused seams.
    pub(crate) is_probed: bool,
    /// The slots of the engine's pool that one instance takes.
    pub(crate) slots: Slots,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) handlers: Vec<HandlerIndex>,
    /// The export indices of the skeletons, in the order of the group's settings.
    pub(crate) dispatches: Vec<DispatchExport>,
    /// The host memory in bytes that an instance takes whatever its guest does.
    pub(crate) host_bytes: usize,
}

/// The time for which sampled requests run the plain code after no instance of the probed code could be created.
const PAUSE: Duration = Duration::from_secs(10);

/// The probed code of a group. It is absent until a sampled request has caused it to be made, and may be removed again.
pub(crate) struct ProbedVariant<C = LinkedCode> {
    code: RwLock<Option<Arc<C>>>,
    /// Whether the code exists, is being made, or cannot be made.
    is_requested: AtomicBool,
    /// The time at which a sampled request last used the code, as a value of [`now`].
    used: AtomicU64,
    /// The time until which sampled requests run the plain code, as a value of [`now`].
    paused_until: AtomicU64,
}

impl<C> Default for ProbedVariant<C> {
    fn default() -> Self {
        Self {
            code: RwLock::default(),
            is_requested: AtomicBool::default(),
            used: AtomicU64::default(),
            paused_until: AtomicU64::default(),
        }
    }
}

impl<C> ProbedVariant<C> {
    /// Returns the code for work that `span` causes. Returns `None` if the plain code must be used, because the request
    /// is not sampled, the probed code does not exist, or its use is paused.
    pub(crate) fn code_for(&self, span: Option<&SpanContext>) -> Option<Arc<C>> {
        if span.is_some_and(SpanContext::is_sampled) { self.code_at(now()) } else { None }
    }

    /// Returns the code for work that is sampled at the time `now`.
    fn code_at(&self, now: u64) -> Option<Arc<C>> {
        let code = self.code.read().unwrap_or_else(PoisonError::into_inner).clone();
        let code = code.filter(|_| now >= self.paused_until.load(Ordering::Relaxed));
        if code.is_some() {
            self.used.store(now, Ordering::Relaxed);
        }
        code
    }

    /// Makes sampled requests run the plain code for [`PAUSE`] from the time `now`.
    pub(crate) fn pause(&self, now: u64) {
        let pause = u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX);
        self.paused_until.store(now.saturating_add(pause), Ordering::Relaxed);
    }

    /// Returns whether the code must be made now. Returns `true` only once until [`ProbedVariant::remove`] is called.
    pub(crate) fn request(&self) -> bool {
        !self.is_requested.load(Ordering::Relaxed) && !self.is_requested.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set(&self, code: Arc<C>) {
        self.used.store(now(), Ordering::Relaxed);
        *self.code.write().unwrap_or_else(PoisonError::into_inner) = Some(code);
    }

    /// Removes the code if it exists, so that sampled requests run the plain code until it has been made again.
    pub(crate) fn remove(&self) {
        let removed = self.code.write().unwrap_or_else(PoisonError::into_inner).take();
        self.is_requested.store(false, Ordering::Relaxed);
        drop(removed);
    }

    /// Returns the time at which a sampled request last used the code, as a value of [`now`]; `None` if there is no
    /// code.
    pub(crate) fn used(&self) -> Option<u64> {
        let code = self.code.read().unwrap_or_else(PoisonError::into_inner);
        code.is_some().then(|| self.used.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paused_code_is_used_again_after_the_pause() {
        let variant = ProbedVariant::default();
        variant.set(Arc::new("code"));
        assert_eq!(variant.code_at(5).as_deref(), Some(&"code"));
        variant.pause(5);
        let end = 5 + 10_000_000_000;
        assert_eq!((variant.code_at(end - 1), variant.used()), (None, Some(5)));
        assert_eq!((variant.code_at(end).as_deref(), variant.used()), (Some(&"code"), Some(end)));
    }

    #[test]
    fn code_is_requested_once_until_it_is_removed() {
        let variant = ProbedVariant::default();
        assert_eq!([variant.request(), variant.request()], [true, false]);
        variant.set(Arc::new("code"));
        variant.remove();
        assert_eq!((variant.code_at(now()), variant.request()), (None, true));
    }
}
