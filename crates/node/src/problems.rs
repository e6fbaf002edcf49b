//! Functions that convert errors to problems of the admin API.

use std::path::Path;

use isomer_api::{ApiProblem, ProblemKind, Quota};
use isomer_apps::tenancy::TenancyError;
use isomer_apps::{AppCapabilityError, RevisionError};
use isomer_capabilities::CapabilityError;
use isomer_capabilities::sql::SqlOpenError;
use isomer_diagnostics::Renderer;
use isomer_diagnostics::causes;
use isomer_disk::Reserve;
use isomer_display::size;
use isomer_state::{BlobError, StateError};

/// Returns the API problem for an error of the node's state.
pub(crate) fn of_state(error: StateError) -> ApiProblem {
    let title = error.to_string();
    match &error {
        StateError::NoTenant(tenant) => {
            ApiProblem::new(ProblemKind::NotFound, title).hint(format!("create it: isomer tenant set {tenant}"))
        }
        StateError::NoApp { .. } | StateError::NoSecret { .. } | StateError::NoToken { .. } => {
            ApiProblem::new(ProblemKind::NotFound, title)
        }
        StateError::TokenTaken { tenant, name } => ApiProblem::new(ProblemKind::Conflict, title).hint(format!(
            "choose another name, or revoke the existing token first: isomer tokens revoke {name} --tenant {tenant}"
        )),
        StateError::HostTaken { .. } => ApiProblem::new(ProblemKind::Conflict, title)
            .hint("choose another host name, or remove this host name from the other app first"),
        StateError::HasApps { .. } => ApiProblem::new(ProblemKind::Conflict, title).hint("remove the tenant's apps first"),
        StateError::TooManyApps { tenant, .. } => ApiProblem::quota(Quota::Apps, title)
            .hint(format!("remove an app, or raise the quota: isomer tenant set {tenant} --apps N")),
        StateError::NoRoom { tenant, .. } => ApiProblem::quota(Quota::Storage, title)
            .hint("deploy fewer files and folders, or shorter paths, or remove apps that are no longer needed")
            .hint(format!("or raise the quota: isomer tenant set {tenant} --storage SIZE")),
        StateError::Unsettled { .. } => failed(&error).hint(
            "the change was made completely or not at all: wait until the disk works again, check whether the change was made, and repeat it only if it was not",
        ),
        StateError::TooMany { .. } => ApiProblem::new(ProblemKind::Refused, title),
        _ => failed(&error),
    }
}

/// Returns the API problem for an error of the store of uploaded parts.
pub(crate) fn of_blob(error: BlobError) -> ApiProblem {
    match &error {
        BlobError::Digest { .. } => {
            ApiProblem::new(ProblemKind::BadRequest, error.to_string()).hint("upload the part again")
        }
        BlobError::TooLarge { .. } => ApiProblem::new(ProblemKind::TooLarge, error.to_string()),
        _ => failed(&error),
    }
}

/// Returns the API problem for a write that would use the disk space that `reserve` keeps free.
pub(crate) fn no_room(reserve: &Reserve) -> ApiProblem {
    let title = "the disk has no free space except the node's reserve";
    tracing::error!(reserve = %size(reserve.bytes()), "a request was refused: {title}");
    ApiProblem::new(ProblemKind::Failed, title)
        .hint("make room on the file system of the node's data directory; unreferenced files are removed six hours after their last use")
        .hint(format!("`disk_reserve` in the node file sets the reserve, now {}", size(reserve.bytes())))
}

/// Returns `text` with the path `data` of the node's data directory replaced by `…`, because clients must not see this
/// path. The node's log contains the original text.
pub(crate) fn hidden(text: &str, data: &Path) -> String {
    let data = data.display().to_string();
    // If the data directory is `/`, replacing it would change every path.
    if data.len() <= 1 {
        return text.to_owned();
    }
    // Replace paths below the directory first, then the path of the directory itself.
    text.replace(&format!("{data}/"), "…/").replace(&format!("`{data}`"), "`…`")
}

/// Applies [`hidden`] to all texts of a problem.
pub(crate) fn without_folder(problem: ApiProblem, data: &Path) -> ApiProblem {
    ApiProblem {
        title: hidden(&problem.title, data),
        detail: problem.detail.map(|detail| hidden(&detail, data)),
        hints: problem.hints.into_iter().map(|hint| hidden(&hint, data)).collect(),
        ..problem
    }
}

/// Logs a failure of the node itself, and returns the API problem for the failure.
pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> ApiProblem {
    let problem = ApiProblem::new(ProblemKind::Failed, error.to_string());
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    tracing::error!(%error, causes = causes.join(": "), "an admin request failed");
    if causes.is_empty() { problem } else { problem.detail(causes.join("\n")) }
}

/// Returns the API problem for a release that cannot be compiled, or a revision that cannot be started.
pub(crate) fn refusal(error: &RevisionError) -> ApiProblem {
    let render = Renderer::plain();
    let problem = ApiProblem::new(ProblemKind::Refused, error.to_string());
    match error {
        RevisionError::Plan(found) => problem.detail(render.diagnostics(found)),
        error => match std::error::Error::source(error) {
            Some(source) => problem.detail(render.error(source)),
            None => problem,
        },
    }
}

/// Returns the API problem for a revision that cannot be started.
pub(crate) fn not_started(error: &TenancyError) -> ApiProblem {
    match error {
        TenancyError::Revision(error) => refusal(error),
        TenancyError::Repository(problem) => problem.clone(),
        TenancyError::Capabilities(AppCapabilityError::Capability(
            error @ CapabilityError::Sql(SqlOpenError::NoRoom { .. }),
        )) => ApiProblem::quota(Quota::Storage, error.to_string()),
        error => {
            let problem = ApiProblem::new(ProblemKind::Refused, error.to_string());
            match std::error::Error::source(error) {
                Some(source) => problem.detail(source.to_string()),
                None => problem,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_see_the_nodes_paths() {
        let problem = ApiProblem::new(ProblemKind::Failed, "cannot use `/srv/node/blobs/ab`")
            .detail("`/srv/node`: no such file\n`/srv/nodes/x` is another's")
            .hint("look into /srv/node/tenants/a");
        let shown = without_folder(problem.clone(), Path::new("/srv/node"));
        assert_eq!(shown.title, "cannot use `…/blobs/ab`");
        assert_eq!(shown.detail.as_deref(), Some("`…`: no such file\n`/srv/nodes/x` is another's"));
        assert_eq!(shown.hints, ["look into …/tenants/a"]);
        assert_eq!(without_folder(problem.clone(), Path::new("/")), problem, "the root is a part of every path");
    }
}
