//! Each app's own log on disk: what its guests print, why its requests fail, and what the node reports about it.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `log` | one app's log: writing and reading it |
//! | `line` | the lines of a log |
//! | `quota` | the bytes that a tenant's apps may log in an hour |
//! | `queue` | the queue of lines for the writer's thread, and the counters of each log |
//! | `writer` | the one thread that writes all logs of a node |
//! | `segments` | a log's files: numbered, each of bounded size, the oldest deleted |
//! | `follower` | streams of new lines, for readers that follow a log |
//!
//! Writing to a log never waits: lines go through one queue, which is bounded for all apps together and for each app.
//! Lines that exceed a bound of the queue or the tenant's quota are dropped, and the number of dropped lines is written
//! to the log itself at intervals. An app that logs nothing has no file, and nothing in memory but its names.
//!
//! A line is one JSON object ([`isomer_api::LogLine`]), so no text of a guest can look like a line that it did not
//! write.

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
