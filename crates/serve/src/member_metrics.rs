//! Sends the metrics of a member to its supervisor while the member runs.

use std::time::Duration;

use isomer_observe::Log;
use isomer_telemetry::metrics::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// The interval at which changed values are sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// The task that sends a member's metrics.
pub(crate) struct MetricsTask {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl MetricsTask {
    /// Starts to send `metrics` over `log`, the log of a member. Must be called in a Tokio runtime.
    pub(crate) fn start(log: &Log, metrics: Metrics) -> Self {
        let mut sender = log.member_metrics(metrics);
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let is_last = tokio::select! {
                    _ = ticks.tick() => false,
                    _ = &mut ended => true,
                };
                sender.send();
                if is_last {
                    return;
                }
            }
        });
        Self { end, task }
    }

    /// Sends the last values.
    pub(crate) async fn end(self) {
        // Both fail only if the task has ended.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}
