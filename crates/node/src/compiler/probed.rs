//! Composing and compiling one group of a release with probes, in child processes.

use isomer_apps::ProbedGroup;
use isomer_apps::fair_semaphore::SemaphorePermit;

use super::error::CompileError;
use super::protocol::{CompilePhase, CompileRequest};
use super::session::blocking;
use super::{COMPILED_AS, Compilers};

/// The name of the group in the phases of its compilation.
const GROUP: &str = "with probes";

impl Compilers {
    /// Composes the group at `index` with probes, and compiles it if its code is not in the cache. Returns `None` if no
    /// function of the group can be probed. The permit is released at the end.
    ///
    /// # Errors
    /// The errors of [`Compilers::make`].
    pub(crate) async fn make_probed(
        &self,
        _permit: SemaphorePermit,
        request: &CompileRequest,
        index: usize,
    ) -> Result<Option<ProbedGroup>, CompileError> {
        let deadline = self.deadline();
        let mut output = self.compose(request, Some(index), deadline).await?;
        let invalid = || CompileError::InvalidOutput { phase: CompilePhase::Composing(GROUP.to_owned()) };
        let (metadata, composition) = match (output.probed, output.compositions.pop()) {
            (Some(metadata), Some(composition)) => (metadata, composition),
            (None, None) => return Ok(None),
            _ => return Err(invalid()),
        };
        let key = request.maker.with([COMPILED_AS, composition.digest.as_slice()]);
        let made = ProbedGroup::new(&metadata, key.clone()).ok_or_else(invalid)?;
        let (cache, wanted) = (request.cache.clone(), key.clone());
        if !blocking(move || Ok(cache.has(&wanted))).await? {
            self.compile(request, GROUP, composition, &key, deadline).await?;
        }
        Ok(Some(made))
    }
}
