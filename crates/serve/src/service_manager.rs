//! Notifications to a service manager: that the process serves, that it stops, and that it is alive.
//!
//! The protocol is systemd's (sd_notify(3)). Without `NOTIFY_SOCKET` in the environment nothing is sent. If a
//! notification fails, the process still serves, so the failure is only a warning.

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies the service manager that the process serves. The service manager shows `status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies the service manager that the process stops once its running requests have ended.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Notifies the service manager that the process is alive, twice as often as required, as long as the executor runs
/// tasks. Does nothing if the service manager has no watchdog for this process.
pub fn keep_alive() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
        loop {
            tick.tick().await;
            notify(&[NotifyState::Watchdog]);
        }
    });
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
