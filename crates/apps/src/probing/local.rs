//! Makes probed code in this process, for the only app of a process. The components are trusted as much as the process,
//! because the user has built or chosen them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use isomer_plan::PlannedGroup;
use isomer_runtime::code::{CodeSource, Key};
use isomer_runtime::engine::Engine;
use isomer_seam::Components;
use tokio::sync::oneshot;

use super::maker::{ProbedCodeMaker, ProbedGroup, ProbingError};
use crate::composition;
use crate::error::RevisionError;

/// Makes the probed code of a package that was made in this process. Holds the components' bytes of each group until the
/// group's code has been made.
pub(crate) struct LocalProbes {
    engine: Engine,
    cache: CodeSource,
    groups: Mutex<BTreeMap<usize, UnprobedGroup>>,
}

/// The inputs of a probed composition.
struct UnprobedGroup {
    planned: PlannedGroup,
    components: Components,
    key: Key,
}

impl LocalProbes {
    pub(crate) fn new(engine: &Engine, cache: &CodeSource) -> Self {
        Self { engine: engine.clone(), cache: cache.clone(), groups: Mutex::default() }
    }

    /// Adds the group at `index`, whose probed code will be stored under `key`. Has no effect if the group has no fused
    /// seams.
    pub(crate) fn add(&self, index: usize, planned: &PlannedGroup, components: &Components, key: Key) {
        if planned.links.is_empty() {
            return;
        }
        let of_group = components.iter().filter(|(name, _)| planned.components.contains(name));
        let components = of_group.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let group = UnprobedGroup { planned: planned.clone(), components, key };
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(index, group);
    }
}

impl ProbedCodeMaker for LocalProbes {
    fn make(&self, index: usize) -> BoxFuture<'static, Result<Option<ProbedGroup>, ProbingError>> {
        let group = self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        Box::pin(async move {
            let Some(UnprobedGroup { planned, components, key }) = group else { return Ok(None) };
            let (sender, made) = oneshot::channel();
            // A thread of its own, because it keeps its low priority.
            let work = move || {
                // If the system refuses the priority, requests are slower while the code is compiled.
                let _ = isomer_runtime::lower_priority();
                let _ = sender.send(make(&planned, &components, &key, &engine, &cache));
            };
            let thread = std::thread::Builder::new().name("isomer-probes".into()).spawn(work);
            thread.map_err(|error| ProbingError::Failed(error.into()))?;
            match made.await {
                Ok(made) => made.map_err(|error| ProbingError::Failed(error.into())),
                Err(_) => Err(ProbingError::Failed("the compiler ended unexpectedly".into())),
            }
        })
    }
}

fn make(
    group: &PlannedGroup,
    components: &Components,
    key: &Key,
    engine: &Engine,
    cache: &CodeSource,
) -> Result<Option<ProbedGroup>, RevisionError> {
    if let Some(metadata) = cache.note(key).and_then(|note| serde_json::from_slice(&note).ok())
        && cache.has(key)
    {
        return Ok(Some(ProbedGroup { key: key.clone(), metadata }));
    }
    let Some((metadata, bytes)) = composition::compose_probed(group, components)? else { return Ok(None) };
    let written = serde_json::to_vec(&metadata).expect("metadata is plain data");
    cache.compile_on_this_thread(engine, key, &bytes, &written)?;
    Ok(Some(ProbedGroup { key: key.clone(), metadata }))
}

impl fmt::Debug for LocalProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalProbes").finish_non_exhaustive()
    }
}
