//! Removing what was laid out on disk for a revision that was refused.

use std::sync::Arc;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::ReleaseDigest;

use crate::attempts::Attempt;
use crate::node::Node;
use crate::trash;

impl Node {
    /// Does `work`, which brings a revision into service, and clears up if it is refused.
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
            self.blocking(clear_up).await?;
        }
        done
    }

    /// Removes what was laid out for a revision that no app has, after `problem`. Where the node itself failed it is not known whether some app has
    /// it: then `sweep` removes it. Blocks.
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
            Some(Err(error)) => tracing::warn!(%error, "files of a revision that was refused are removed later"),
            None => {}
        }
    }
}
