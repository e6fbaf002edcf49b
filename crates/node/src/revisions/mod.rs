//! The files and records of revisions on disk. The modules of this folder do not use a running node.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `release` | a release: its digest, its checks, its files on disk |
//! | `record` | the record of a revision in the node's state |
//! | `changes` | the differences between two releases |
//! | [`snapshots`] | the files of an app's stores from before a take-over replaced them |
//! | [`sweep`] | removing unreferenced files |

pub(crate) mod changes;
pub(crate) mod record;
pub(crate) mod release;
pub mod snapshots;
pub mod sweep;
