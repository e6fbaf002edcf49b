//! The state of a serving process: the arrangement that serves requests, and its revision.

use std::sync::Arc;

use isomer_ids::PlanDigest;
use isomer_plan::Plan;

use crate::arrangement::Arrangement;
use crate::revision_source::RevisionSource;

/// The arrangement that accepts connections.
pub(crate) struct Serving {
    pub(crate) arrangement: Arrangement,
    /// The revision that it runs; `None` if it only responds that the app is not built yet.
    pub(crate) revision: Option<RunningRevision>,
}

/// The revision that serves requests.
pub(crate) struct RunningRevision {
    pub(crate) source: Arc<RevisionSource>,
    pub(crate) shape: String,
    pub(crate) plan: Plan,
    pub(crate) digest: PlanDigest,
}
