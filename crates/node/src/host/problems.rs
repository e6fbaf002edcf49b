//! What an admin is told of errors of the parts.

use isomer_api::{Problem, ProblemKind, Quota};
use isomer_disk::Reserve;
use isomer_state::{BlobError, StateError};

/// Of the state.
pub(crate) fn of_state(error: StateError) -> Problem {
    let title = error.to_string();
    match &error {
        StateError::NoTenant(tenant) => {
            Problem::new(ProblemKind::NotFound, title).hint(format!("make it with `isomer tenant set {tenant}`"))
        }
        StateError::NoApp { .. } | StateError::NoSecret { .. } | StateError::NoToken { .. } => {
            Problem::new(ProblemKind::NotFound, title)
        }
        StateError::TokenTaken { tenant, name } => Problem::new(ProblemKind::Conflict, title).hint(format!(
            "choose another name, or revoke that one first: isomer tokens revoke {name} --tenant {tenant}"
        )),
        StateError::HostTaken { .. } => {
            Problem::new(ProblemKind::Conflict, title).hint("choose another host name, or take it from there first")
        }
        StateError::HasApps { .. } => Problem::new(ProblemKind::Conflict, title).hint("remove its apps first"),
        StateError::TooManyApps { tenant, .. } => Problem::quota(Quota::Apps, title)
            .hint(format!("remove one, or allow more with `isomer tenant set {tenant} --apps N`")),
        StateError::Unsettled { .. } => failed(&error).hint(
            "the change was made as a whole or not at all: look which, before you make it again, when the disk works",
        ),
        StateError::TooMany { .. } => Problem::new(ProblemKind::Refused, title),
        _ => failed(&error),
    }
}

/// Of the blobs.
pub(crate) fn of_blob(error: BlobError) -> Problem {
    match &error {
        BlobError::Digest { .. } => Problem::new(ProblemKind::BadRequest, error.to_string()).hint("send it again"),
        BlobError::TooLarge { .. } => Problem::new(ProblemKind::TooLarge, error.to_string()),
        _ => failed(&error),
    }
}

/// An upload would take what is kept free for the node itself.
pub(crate) fn no_room(reserve: &Reserve) -> Problem {
    let title = "the disk has no room left but what the node keeps free for itself";
    tracing::error!(reserve_bytes = reserve.bytes(), "an upload is refused: {title}");
    Problem::new(ProblemKind::Failed, title)
        .hint("make room on the file system of the node's data directory; what no revision refers to is removed six hours after its last use")
        .hint(format!("`disk_reserve` in the node file says how much is kept free, {} bytes now", reserve.bytes()))
}

/// The node itself failed.
pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Problem {
    let problem = Problem::new(ProblemKind::Failed, error.to_string());
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    tracing::error!(%error, causes = causes.join(": "), "an admin's request failed");
    if causes.is_empty() { problem } else { problem.detail(causes.join("\n")) }
}
