//! The bounds of all apps' logs.

use std::time::Duration;

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
