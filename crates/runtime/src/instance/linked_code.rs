//! The code of a group, linked with host functions: the plain code, and the probed code that sampled requests run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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

/// The probed code of a group. It is absent until a sampled request has caused it to be made, and may be removed again.
#[derive(Default)]
pub(crate) struct ProbedVariant {
    code: RwLock<Option<Arc<LinkedCode>>>,
    /// Whether the code exists, is being made, or cannot be made.
    is_requested: AtomicBool,
    /// The time at which a sampled request last used the code, as a value of [`now`].
    used: AtomicU64,
}

impl ProbedVariant {
    /// Returns the code for work that `span` causes. Returns `None` if the plain code must be used, because the request
    /// is not sampled or the probed code does not exist.
    pub(crate) fn code_for(&self, span: Option<&SpanContext>) -> Option<Arc<LinkedCode>> {
        if !span.is_some_and(SpanContext::is_sampled) {
            return None;
        }
        let code = self.code.read().unwrap_or_else(PoisonError::into_inner).clone();
        if code.is_some() {
            self.used.store(now(), Ordering::Relaxed);
        }
        code
    }

    /// Returns whether the code must be made now. Returns `true` only once until [`ProbedVariant::remove`] is called.
    pub(crate) fn request(&self) -> bool {
        !self.is_requested.load(Ordering::Relaxed) && !self.is_requested.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set(&self, code: LinkedCode) {
        self.used.store(now(), Ordering::Relaxed);
        *self.code.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(code));
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
