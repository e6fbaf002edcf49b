//! Removal of a revision's files from the disk after the revision was refused.

use std::sync::Arc;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::ReleaseDigest;

use crate::attempts::Attempt;
use crate::node::Node;
use crate::trash;

impl Node {
    /// Runs the deployment `work` of `revision`. If the deployment is refused, removes the revision's files and returns
    /// the refusal. If the removal fails, only logs the failure.
    pub(super) async fn attempt<T>(
        self: &Arc<Self>,
        revision: ReleaseDigest,
        work: impl Future<Output = Result<T, ApiProblem>>,
    ) -> Result<T, ApiProblem> {
        let node = self.clone();
        let attempt = self.blocking(move || Ok(node.attempts.begin(&revision))).await?;
        let done = work.await;
        if let Err(problem) = &done {
            let (node, problem) = (self.clone(), problem.clone());
            let clear_up = move || {
                node.clear_up(attempt, &problem);
                Ok(())
            };
            // The client gets the refusal, even if the files cannot be removed.
            if let Err(failure) = self.blocking(clear_up).await {
                tracing::error!(problem = %failure, "cannot remove the files of a refused revision; the node tries again later");
            }
        }
        done
    }

    /// Removes the files of a refused revision, unless an app has the revision. If `problem` is a failure of the node
    /// itself, it is unknown whether an app has the revision, so the removal is left to the hourly sweep. Blocks.
    fn clear_up(&self, attempt: Attempt, problem: &ApiProblem) {
        if !matches!(problem.kind, ProblemKind::Refused | ProblemKind::Quota) {
            return;
        }
        let moved = attempt.end(|revision| match self.state.has_revision(revision) {
            true => Ok(None),
            false => trash::move_to_trash(&self.dir, &self.dir.revisions().join(revision.as_str())),
        });
        match moved {
            Some(Ok(moved)) => trash::discard(moved),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot remove the files of a refused revision; the node tries again later")
            }
            None => {}
        }
    }
}
