//! Notifications to a service manager: that the process serves, that it stops, and that it is alive.
//!
//! This is systemd's protocol (sd_notify(3)). Without `NOTIFY_SOCKET` in the environment nothing is sent. A failed notification does not
//! keep the process from serving, so it is only a warning.

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies that the process serves. `status` is shown by the service manager.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies that the process stops once its running requests have ended.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Notifies that the process is alive, twice as often as the service manager requires, for as long as the executor runs tasks. Does
/// nothing if the service manager has no watchdog for it.
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
