//! The data of revisions on disk. Nothing here uses a running node.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `release` | a release: its digest, its checks, its files on disk |
//! | `record` | the record of a revision in the state |
//! | `changes` | the differences between two releases |
//! | [`snapshots`] | an app's stores as they were before a take-over replaced them |
//! | [`sweep`] | removing files to which nothing refers |

pub(crate) mod changes;
pub(crate) mod record;
pub(crate) mod release;
pub mod snapshots;
pub mod sweep;
