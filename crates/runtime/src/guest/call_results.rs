//! The results of asynchronous calls across seams, until the guest takes them.

use std::sync::Arc;

use isomer_wire::call::CallResult;
use isomer_wire::{CallError, CallFailure};

use super::in_flight_calls::CallPermit;

/// Results that wait to be taken, each with its permit among the calls of its store.
#[derive(Default)]
pub(crate) struct CallResults(pub(crate) Vec<PendingResult>);

pub(crate) struct PendingResult {
    pub(crate) seam: Arc<str>,
    pub(crate) stub: usize,
    pub(crate) ticket: u32,
    pub(crate) function: usize,
    pub(crate) answer: CallResult,
    /// None for a call that found none.
    pub(crate) _permit: Option<CallPermit>,
}

impl CallResults {
    /// The seam of a call that was lost to the deadline, where the guest has not been told yet: that is what it passed its own
    /// deadline for.
    pub(crate) fn too_late(&self) -> Option<(Arc<str>, CallFailure)> {
        self.0.iter().find_map(|waiting| match &waiting.answer {
            Err(failure) if failure.lost() == Some(CallError::Deadline) => {
                Some((waiting.seam.clone(), failure.clone()))
            }
            _ => None,
        })
    }
}
