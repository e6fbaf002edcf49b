//! The line in an app's log about the outcome of a rollout.

use std::path::Path;
use std::time::Duration;

use isomer_api::{ApiProblem, DeployReport, LogLevel};
use isomer_display::elapsed;
use isomer_manifest::MONOLITH;

use crate::problems;

/// Returns the line for the app's log that states the outcome of a rollout; `None` if nothing was to be done. The app's
/// tenant reads the log, so the line does not contain the path `data` of the node's data directory.
pub(super) fn outcome_note(
    operation: &str,
    outcome: &Result<DeployReport, ApiProblem>,
    data: &Path,
) -> Option<(LogLevel, String)> {
    match outcome {
        Ok(DeployReport { unchanged: true, .. }) => None,
        Ok(DeployReport { revision, shape, took_ms, .. }) => {
            let shape = shape.as_deref().unwrap_or(MONOLITH);
            let took = elapsed(Duration::from_millis(*took_ms));
            let text = format!("{operation}: revision {} now serves in shape {shape}  ({took})", revision.short());
            Some((LogLevel::Info, text))
        }
        Err(problem) => {
            let title = problems::hidden(&problem.title, data);
            Some((LogLevel::Error, format!("{operation} failed: {title}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use isomer_api::ProblemKind;

    use super::*;

    #[test]
    fn a_failure_does_not_name_the_nodes_folder() {
        let problem = ApiProblem::new(ProblemKind::Failed, "cannot write `/srv/node/state`");
        let note = outcome_note("reshape", &Err(problem), Path::new("/srv/node"));
        assert_eq!(note, Some((LogLevel::Error, "reshape failed: cannot write `…/state`".to_owned())));
    }
}
