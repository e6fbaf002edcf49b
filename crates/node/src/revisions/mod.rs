//! What is on disk of revisions. Nothing here uses a running node.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `release` | a release: its digest, its checks, its files on disk |
//! | `record` | what the state keeps of a revision |
//! | `changes` | the differences between two releases |
//! | [`snapshots`] | an app's stores as they were before a take-over replaced them |
//! | [`sweep`] | removing what nothing refers to |

pub(crate) mod changes;
pub(crate) mod record;
pub(crate) mod release;
pub mod snapshots;
pub mod sweep;
