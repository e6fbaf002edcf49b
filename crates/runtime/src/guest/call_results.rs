//! The results of asynchronous calls across seams that the guest has not taken yet.

use std::sync::Arc;

use isomer_wire::call::CallResult;
use isomer_wire::{CallError, CallFailure};

use super::in_flight_calls::CallPermit;
use crate::seam::SeamFunction;

/// The results that the guest has not taken yet, each with the permit of its call.
#[derive(Default)]
pub(crate) struct CallResults(pub(crate) Vec<PendingResult>);

pub(crate) struct PendingResult {
    pub(crate) seam: Arc<SeamFunction>,
    pub(crate) stub: usize,
    pub(crate) ticket: u32,
    pub(crate) function: usize,
    pub(crate) result: CallResult,
    /// The permit of the call; `None` if the call failed before it got a permit.
    pub(crate) _permit: Option<CallPermit>,
}

impl CallResults {
    /// Returns the seam and the failure of a call that missed its deadline, if the guest has not taken the result yet.
    /// That call is the reason why the guest missed its own deadline.
    pub(crate) fn too_late(&self) -> Option<(Arc<SeamFunction>, CallFailure)> {
        self.0.iter().find_map(|waiting| match &waiting.result {
            Err(failure) if failure.lost() == Some(CallError::Deadline) => {
                Some((waiting.seam.clone(), failure.clone()))
            }
            _ => None,
        })
    }
}
