//! Notifications to a service manager: the process is ready, stops, or is alive.
//!
//! The protocol is systemd's (sd_notify(3)). Nothing is sent without `NOTIFY_SOCKET` in the environment. A failed
//! notification is only logged as a warning, because the process can serve without it.

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies the service manager that the process is ready. The service manager displays `status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies the service manager that the process is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Spawns a task that sends watchdog notifications twice as often as the service manager requires. The notifications
/// stop if the executor no longer runs tasks. Does nothing if the service manager has no watchdog for this process.
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
