//! The probed code of revisions, which sampled requests run. It is compiled at the first sampled request of a revision,
//! in child processes like all code, and is not part of the revision's record: unused code is removed like the code of
//! removed revisions, and is compiled again when it is needed.

use std::sync::Arc;

use futures::future::BoxFuture;
use isomer_api::{ApiProblem, ProblemKind};
use isomer_apps::{ProbedCodeMaker, ProbedGroup, ProbingError};
use isomer_ids::{ReleaseDigest, TenantName};
use isomer_runtime::code::{CodeCache, Key};
use isomer_state::{Blobs, NodeState};

use crate::compiler::{CompileRequest, Compilers};
use crate::problems;
use crate::revisions::record::RevisionRecord;

/// The version of the notes under which the metadata of probed groups is stored. Increment it when the metadata or the
/// probes change.
const NOTED_AS: &[u8] = b"probed group 1";

/// Makes the probed code of one revision. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReleaseProbes {
    pub(crate) state: Arc<NodeState>,
    pub(crate) blobs: Blobs,
    pub(crate) cache: CodeCache,
    pub(crate) compilers: Arc<Compilers>,
    /// A hash of this program's version and its engine's settings: see [`RevisionRecord::maker`].
    pub(crate) maker: Key,
    pub(crate) tenant: TenantName,
    pub(crate) revision: ReleaseDigest,
}

impl ProbedCodeMaker for ReleaseProbes {
    fn make(&self, index: usize) -> BoxFuture<'static, Result<Option<ProbedGroup>, ProbingError>> {
        let probes = self.clone();
        Box::pin(async move {
            probes.group(index).await.map_err(|problem| match problem.kind {
                ProblemKind::Unavailable => ProbingError::Busy(problem.into()),
                _ => ProbingError::Failed(problem.into()),
            })
        })
    }
}

impl ReleaseProbes {
    /// Returns the probed code of a group. Compiles the code if it is not in the cache.
    async fn group(&self, index: usize) -> Result<Option<ProbedGroup>, ApiProblem> {
        let revision = self.revision.to_string();
        let note = self.maker.with([NOTED_AS, revision.as_bytes(), index.to_string().as_bytes()]);
        let noted = note.clone();
        let found = self.blocking(move |probes| {
            if let Some(group) = probes.noted_group(&noted) {
                return Ok(FoundGroup::Compiled(group));
            }
            let bytes = probes.state.package(&probes.revision).map_err(problems::of_state)?;
            let bytes = bytes.ok_or_else(|| ApiProblem::not_found("revision", &probes.revision))?;
            Ok(FoundGroup::Release(Box::new(RevisionRecord::read(&bytes)?.release()?)))
        });
        let release = match found.await? {
            FoundGroup::Compiled(group) => return Ok(group),
            FoundGroup::Release(release) => release,
        };
        let request = CompileRequest::new(&self.tenant, &release, &self.blobs, &self.cache, &self.maker);
        let permit = self.compilers.request_permit(&self.tenant).map_err(ApiProblem::from)?.granted().await;
        let made = self.compilers.make_probed(permit, &request, index).await.map_err(ApiProblem::from)?;
        let text = serde_json::to_vec(&made).expect("a probed group is plain data");
        let written = self.blocking(move |probes| {
            // Without the note, the group is composed again after the app's next load.
            if let Err(error) = probes.cache.write_note(&note, &text) {
                tracing::warn!(%error, "cannot store the metadata of probed code");
            }
            Ok(())
        });
        written.await?;
        Ok(made)
    }

    /// Returns the group that is noted under `key`, if its code is in the cache. Blocks.
    fn noted_group(&self, key: &Key) -> Option<Option<ProbedGroup>> {
        let noted: Option<ProbedGroup> = serde_json::from_slice(&self.cache.note(key)?).ok()?;
        noted.as_ref().is_none_or(|group| self.cache.has(group.code())).then_some(noted)
    }

    /// Runs `work`, which reads and syncs files, on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let probes = self.clone();
        let failed = |_| Err(ApiProblem::new(ProblemKind::Failed, "the node failed; see the node's log"));
        tokio::task::spawn_blocking(move || work(&probes)).await.unwrap_or_else(failed)
    }
}

/// What the node has of a probed group.
enum FoundGroup {
    /// The group, with its code in the cache. `None` if no function of the group can be probed.
    Compiled(Option<ProbedGroup>),
    /// The release from which the group must be made.
    Release(Box<isomer_api::Release>),
}
