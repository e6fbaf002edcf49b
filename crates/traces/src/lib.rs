//! The local store of traces: each app's traces on disk, and queries for them.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `store` | one app's traces: recording and reading them |
//! | `stores` | the stores of all apps of a process |
//! | `limits` | the limits of all stores |
//! | `follow_filter` | the conditions by which followers select traces |
//! | `follower` | streams of new traces, for readers that follow a store |

#![forbid(unsafe_code)]

mod follow_filter;
mod follower;
mod limits;
mod store;
mod stores;

pub use follow_filter::FollowFilter;
pub use follower::FollowedTraces;
pub use limits::TraceLimits;
pub use store::{InvalidTraceKey, TraceKey, TraceStore, TraceStoreError};
pub use stores::{TenantTraces, TraceStores};
