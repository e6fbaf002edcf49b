//! Each app's own log on disk: what its guests print, why its requests fail, and what the node reports about the app.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `log` | one app's log: writing and reading it |
//! | `query` | queries of the admin API |
//! | `line` | the lines of a log |
//! | `limits` | the limits of the logs of all apps |
//! | `quota` | the bytes that a tenant's apps may log in an hour |
//! | `queue` | the queue of lines for the writer's thread, and the counters of each log |
//! | `writer` | the one thread that writes all logs of a node |
//! | `segments` | a log's files: numbered, each of bounded size, the oldest deleted |
//! | `follower` | streams of new lines, for readers that follow a log |
//!
//! Writing to a log never blocks: lines go through one queue, whose size is limited for each app, for each tenant and
//! for all apps together. Lines that exceed a limit of the queue or the tenant's quota are dropped, and the number of
//! dropped lines is written to the log at intervals. An app that logs nothing has no file, and only the app's names are
//! in memory.
//!
//! A line is one JSON object ([`isomer_api::LogLine`]), so a guest cannot print text that looks like a line of another
//! source.

mod follower;
mod limits;
mod line;
mod log;
mod query;
mod queue;
mod quota;
mod segments;
mod writer;

pub use follower::Followed;
pub use limits::AppLogLimits;
pub(crate) use line::{of_record, unix_ms};
pub use log::AppLog;
pub use queue::AppLogError;
pub use quota::LogQuota;
pub use writer::AppLogs;
