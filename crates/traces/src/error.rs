//! Why traces cannot be read or followed.

use std::io;
use std::path::PathBuf;

use isomer_api::{ApiProblem, ProblemKind};

/// Why traces cannot be read or followed.
#[derive(Debug, thiserror::Error)]
pub enum TraceStoreError {
    /// The store's files cannot be read.
    #[error("cannot read the traces in `{}`", folder.display())]
    Read {
        /// The store's folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The query is not valid.
    #[error("{0}")]
    Query(String),
    /// The store has the maximum number of followers.
    #[error("the traces of this app already have {most} followers, which is the maximum")]
    Followers {
        /// The maximum number of followers of one store.
        most: usize,
    },
    /// The store is closed, because its app was removed or the process shuts down.
    #[error("the store of this app's traces is closed")]
    Closed,
}

impl From<TraceStoreError> for ApiProblem {
    fn from(error: TraceStoreError) -> Self {
        let kind = match &error {
            TraceStoreError::Read { .. } => ProblemKind::Failed,
            TraceStoreError::Query(_) => ProblemKind::BadRequest,
            TraceStoreError::Followers { .. } | TraceStoreError::Closed => ProblemKind::Unavailable,
        };
        let problem = Self::new(kind, error.to_string());
        match std::error::Error::source(&error) {
            Some(source) => problem.detail(source.to_string()),
            None => problem,
        }
    }
}
