//! The trait of what makes the probed code of a revision's groups, and the result.

use std::error::Error;

use futures::future::BoxFuture;
use isomer_runtime::code::Key;
use serde::{Deserialize, Serialize};

use crate::composition::ProbedMetadata;

/// The metadata and the cache key of a group's probed code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbedGroup {
    pub(crate) key: Key,
    pub(crate) metadata: ProbedMetadata,
}

/// The reason why probed code could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbingError {
    /// Too many releases wait for a compiler. The next sampled request tries again.
    #[error(transparent)]
    Busy(Box<dyn Error + Send + Sync>),
    /// The group cannot be composed or compiled with probes.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Makes the probed code of one revision's groups.
pub trait ProbedCodeMaker: Send + Sync + 'static {
    /// Composes the group at `index` with probes and compiles it, unless the code is in the code cache. Returns `None` if
    /// no function of the group can be probed. Must not block.
    ///
    /// # Errors
    /// If the code cannot be made.
    fn make(&self, index: usize) -> BoxFuture<'static, Result<Option<ProbedGroup>, ProbingError>>;
}

impl ProbedGroup {
    /// Returns the group whose metadata was parsed from the text that
    /// [`draft_probed_group`](crate::package::draft_probed_group) returned, and whose code is stored under `key`. Returns
    /// `None` if the text is not valid.
    #[must_use]
    pub fn new(metadata: &str, key: Key) -> Option<Self> {
        Some(Self { key, metadata: serde_json::from_str(metadata).ok()? })
    }

    /// Returns the cache key of the code.
    #[must_use]
    pub fn code(&self) -> &Key {
        &self.key
    }
}
