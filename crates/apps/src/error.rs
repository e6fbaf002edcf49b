//! Why a revision cannot be made or started.

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_runtime::Failure;
use isomer_runtime::code::CodeError;
use isomer_runtime::engine::SlotsError;
use isomer_runtime::group::GroupError;
use isomer_seam::{PlanError, SeamError};

use crate::app_capabilities::AppCapabilityError;

/// Why a revision could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// A component's bytes are not what they should be.
    #[error("cannot read component `{component}`")]
    Component {
        /// Which.
        component: ComponentName,
        /// Why.
        source: SeamError,
    },
    /// The plan refuses the app. All findings, with their places in the manifest.
    #[error("the app cannot run as it is")]
    Plan(Vec<Diagnostic>),
    /// The shape has no such group.
    #[error("the shape has no group `{process}`; it has {known}")]
    NoProcess {
        /// What was asked for.
        process: String,
        /// Those that there are, in backticks.
        known: String,
    },
    /// A component is called that runs in another process, and nobody answers for that.
    #[error("component `{component}` runs in group `{process}`, and it is not known where that is")]
    NoPeer {
        /// Who is called.
        component: ComponentName,
        /// Where it runs.
        process: String,
    },
    /// The components of a group do not fit together.
    #[error("cannot compose group `{group}`")]
    Compose {
        /// Which.
        group: String,
        /// Why.
        source: SeamError,
    },
    /// No instance of a group could be made.
    #[error("group `{group}` cannot run")]
    TooLarge {
        /// Which.
        group: String,
        /// Why.
        source: SlotsError,
    },
    /// The code cache, or the compiler.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A package's code is not there, or is another version's.
    #[error("the code of group `{group}` is not there")]
    NoCode {
        /// Which.
        group: String,
    },
    /// The engine could not be set up.
    #[error("cannot set aside address space for the app's instances")]
    Engine {
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A group could not be linked.
    #[error("cannot link group `{group}`")]
    Link {
        /// Which.
        group: String,
        /// Why.
        source: GroupError,
    },
    /// A grant could not be made good.
    #[error(transparent)]
    Capabilities(#[from] AppCapabilityError),
    /// The first instance did not start.
    #[error("group `{group}` does not start")]
    Start {
        /// Which.
        group: String,
        /// Why.
        source: Failure,
    },
}

impl From<PlanError> for RevisionError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Component { component, source } => Self::Component { component, source },
            PlanError::Refused(problems) => Self::Plan(problems),
        }
    }
}
