//! The bounds of all apps' logs.

use std::time::Duration;

/// The limits of the logs of all apps.
#[derive(Debug, Clone)]
pub struct AppLogLimits {
    /// Maximum bytes of one file of a log.
    pub segment_bytes: u64,
    /// Maximum number of files of a log. When it is reached, the oldest file is deleted before a new one is created.
    pub segments: u64,
    /// Maximum bytes of lines that wait to be written, of all apps together.
    pub waiting_bytes: usize,
    /// Maximum bytes of lines that wait to be written, of all apps of one tenant.
    pub waiting_bytes_of_tenant: usize,
    /// Maximum bytes of lines that wait to be written, of one app.
    pub waiting_bytes_of_app: usize,
    /// The interval at which an app's log reports how many of its lines were dropped.
    pub loss_report_interval: Duration,
    /// Maximum number of followers of one log.
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
