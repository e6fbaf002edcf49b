//! What a service manager is told: that the process serves, reads its settings again, or stops, and that it is alive.
//!
//! This is systemd's protocol (sd_notify(3)): without `NOTIFY_SOCKET` in the environment nobody is told anything. A manager that
//! cannot be told is no reason to serve nobody, so errors are warnings.

use std::time::Duration;

use sd_notify::NotifyState;

/// It serves; `status` is shown to whoever asks the manager.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It stops, once requests in flight have ended.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells that the process is alive for as long as its executor runs tasks, twice as often as the manager asks for. Does nothing if
/// it does not ask.
pub(crate) fn keep_alive() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
        loop {
            tick.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    });
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
