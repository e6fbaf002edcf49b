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
mod log;
mod quota;
mod segments;
mod writer;

use std::time::Duration;

pub use follower::Followed;
pub use log::{AppLog, AppLogError};
pub use quota::LogQuota;
pub use writer::AppLogs;

/// What the logs of all apps may take.
#[derive(Debug, Clone)]
pub struct AppLogLimits {
    /// Bytes of one file of a log.
    pub segment_bytes: u64,
    /// Files of a log: the oldest is deleted when there would be more.
    pub segments: u64,
    /// Bytes of lines that may wait to be written, of all apps together.
    pub waiting_bytes: usize,
    /// Bytes of lines that may wait to be written, of all apps of one tenant.
    pub waiting_bytes_of_tenant: usize,
    /// Bytes of lines that may wait to be written, of one app.
    pub waiting_bytes_of_app: usize,
    /// How often an app's log says how many of its lines were dropped.
    pub say_losses_every: Duration,
    /// How many may follow one log at once.
    pub followers: usize,
}

impl Default for AppLogLimits {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 20,
            segments: 4,
            waiting_bytes: 16 << 20,
            waiting_bytes_of_tenant: 2 << 20,
            waiting_bytes_of_app: 1 << 20,
            say_losses_every: Duration::from_secs(60),
            followers: 16,
        }
    }
}
