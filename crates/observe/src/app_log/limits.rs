//! The limits of the logs of all apps.

use std::time::Duration;

/// The limits of the logs of all apps on a node.
#[derive(Debug, Clone)]
pub struct AppLogLimits {
    /// The maximum size of one file of a log in bytes.
    pub segment_bytes: u64,
    /// The maximum number of files of a log. Before another file is created, the oldest file is deleted.
    pub segments: u64,
    /// The maximum number of bytes in lines that wait to be written, for all apps together.
    pub waiting_bytes: usize,
    /// The maximum number of bytes in lines that wait to be written, for all apps of one tenant.
    pub waiting_bytes_of_tenant: usize,
    /// The maximum number of bytes in lines that wait to be written, for one app.
    pub waiting_bytes_of_app: usize,
    /// The interval at which an app's log reports how many of its lines were dropped.
    pub loss_report_interval: Duration,
    /// The maximum number of followers of one log.
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
            loss_report_interval: Duration::from_secs(60),
            followers: 16,
        }
    }
}
