//! Each app's own log, on disk: what its guests print, why its requests fail, what the node says of it.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `app_log` | one app's log, as those see it who say something or read it |
//! | `quota` | how much a tenant's apps may say in an hour |
//! | `writer` | the one thread that writes all logs of a node |
//! | `segments` | a log's files: numbered, each of bounded size, the oldest deleted |
//! | `follow` | lines as they come, for who asked for them |
//!
//! Nobody who says something waits: lines go through one queue, bounded over all apps and for each. What does not fit into it or
//! into the tenant's quota is dropped and counted, and the count is said in the log itself, once in a while. An app that says nothing
//! has no file, and nothing in memory but its names.
//!
//! A line is one JSON object ([`isomer_api::LogLine`]), so no text that a guest writes can look like a line that it did not write.

mod follower;
mod limits;
mod line;
mod log;
mod queue;
mod quota;
mod segments;
mod writer;

pub use follower::Followed;
pub use limits::AppLogLimits;
pub use log::AppLog;
pub use queue::AppLogError;
pub use quota::LogQuota;
pub use writer::AppLogs;
