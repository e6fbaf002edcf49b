//! The local store of traces: each app's traces on disk, and queries for them.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `store` | one app's traces: recording and reading them |
//! | `stores` | the stores of all apps of a process |
//! | `error` | why traces cannot be read |
//! | `limits` | the limits of all stores |
//! | `follow_filter` | the conditions by which followers select traces |
//! | `queue` | the queue of fragments for the writer's thread, and the counters of each store |
//! | `budget` | the rate at which the apps of a tenant may record traces |
//! | `writer` | the one thread that writes the traces of all apps |
//! | `segments` | a store's files: numbered, each of bounded size, the oldest deleted |
//! | `codec` | the records in these files |
//! | `filter` | the conditions of a query |
//! | `key`, `position` | the ids by which a trace is found, and the position of the next page |
//! | `search` | searching a store's files |
//! | `summary` | the summary of one fragment |
//! | `assembly` | one trace from the fragments of all processes |
//! | `follower` | streams of new traces, for readers that follow a store |
//!
//! A process records one fragment of a trace for each request or call ([`isomer_telemetry::TraceFragment`]). Recording a
//! fragment never blocks: fragments go through one queue, whose size is limited for each app, for each tenant and for
//! all apps together. Fragments that exceed a limit are dropped and counted. The structure is that of the apps' logs
//! (`isomer-observe`), because the tasks are the same.
//!
//! A store survives a restart. After `kill -9`, the fragments of the last milliseconds are missing, and a record of
//! which only a part was written is ignored. Files are not synced: after a power failure, more of the newest traces may
//! be missing.

#![forbid(unsafe_code)]

mod assembly;
mod budget;
mod codec;
mod error;
mod filter;
mod follow_filter;
mod follower;
mod key;
mod limits;
mod position;
mod queue;
#[cfg(test)]
mod samples;
mod search;
mod segments;
mod store;
mod stores;
mod summary;
mod writer;

pub use error::TraceStoreError;
pub use follow_filter::FollowFilter;
pub use follower::FollowedTraces;
pub use key::{InvalidTraceKey, TraceKey};
pub use limits::{SEGMENT_BYTES_MIN, TraceLimits};
pub use queue::{TenantTraces, TraceDrops};
pub use store::{ProcessTraces, TraceStore};
pub use stores::TraceStores;
