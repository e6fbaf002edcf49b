//! The errors of making and starting a revision.

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
#[cfg(feature = "compiler")]
use isomer_plan::PlannedBrowser;
use isomer_runtime::Failure;
use isomer_runtime::code::CodeError;
use isomer_runtime::engine::SlotsError;
use isomer_runtime::group::GroupError;
use isomer_seam::{PlanError, SeamError};

use crate::app_capabilities::AppCapabilityError;
use crate::web_files_error::WebFilesError;

/// The reason why a revision could not be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// The bytes of a component are invalid.
    #[error("cannot read component `{component}`")]
    Component {
        /// The component with the invalid bytes.
        component: ComponentName,
        /// What is invalid.
        source: SeamError,
    },
    /// The app cannot be planned. The diagnostics describe all problems, with their locations in the manifest.
    #[error("the app cannot run as it is")]
    Plan(Vec<Diagnostic>),
    /// The shape has no group of the requested name.
    #[error("the shape has no group `{process}`; its groups are {known}")]
    NoProcess {
        /// The requested name.
        process: String,
        /// The names of the shape's groups, in backticks.
        known: String,
    },
    /// A component calls a component in another process, but the address of that process is not known.
    #[error("component `{component}` runs in group `{process}`, but no address of this group is known")]
    NoPeer {
        /// The called component.
        component: ComponentName,
        /// The name of the called component's group.
        process: String,
    },
    /// The components of a group cannot be composed.
    #[error("cannot compose group `{group}`")]
    Compose {
        /// The name of the group.
        group: String,
        /// The reason why the components cannot be composed.
        source: SeamError,
    },
    /// One instance of a group needs more of the engine's pool than one instance may use.
    #[error("an instance of group `{group}` needs too many resources")]
    TooLarge {
        /// The name of the group.
        group: String,
        /// The limit that the instance exceeds.
        source: SlotsError,
    },
    /// The code cache or the compiler failed.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The code of a package is not in the cache, or was compiled by another version of the program.
    #[error("the compiled code of group `{group}` is missing")]
    NoCode {
        /// The name of the group.
        group: String,
    },
    /// A shipped program has no code of a group, or no files of a browser group.
    #[error("the program was shipped without the code of group `{group}`")]
    NotShipped {
        /// The name of the group.
        group: String,
    },
    /// The engine could not be created.
    #[error("cannot reserve address space for the app's instances")]
    Engine {
        /// The operating system's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A group could not be linked, for example because an import could not be resolved.
    #[error("cannot link group `{group}`")]
    Link {
        /// The name of the group.
        group: String,
        /// The reason, such as the import that could not be resolved.
        source: GroupError,
    },
    /// The files of a browser group could not be made or loaded.
    #[error("cannot run browser group `{group}` in a browser")]
    WebFiles {
        /// The name of the group.
        group: String,
        /// The reason.
        source: WebFilesError,
    },
    /// The key of the app's sessions could not be read or created, or the tenant has no memory left for the gateway.
    #[error("cannot open the app's gateway for tabs, whose key is in `sessions.key` in the app's data")]
    Gateway {
        /// The system's error.
        source: std::io::Error,
    },
    /// A granted capability could not be provided.
    #[error(transparent)]
    Capabilities(#[from] AppCapabilityError),
    /// The first instance of a group did not start.
    #[error("group `{group}` does not start")]
    Start {
        /// The name of the group.
        group: String,
        /// The failure of the instance.
        source: Failure,
    },
}

impl RevisionError {
    /// Returns the error for the files of a browser group.
    #[cfg(feature = "compiler")]
    pub(crate) fn web_files(browser: &PlannedBrowser, source: WebFilesError) -> Self {
        Self::WebFiles { group: browser.group.name.clone(), source }
    }
}

impl From<PlanError> for RevisionError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Component { component, source } => Self::Component { component, source },
            PlanError::Refused(problems) => Self::Plan(problems),
        }
    }
}
