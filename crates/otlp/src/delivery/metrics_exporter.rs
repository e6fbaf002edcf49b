//! The task that sends metrics: a snapshot at each interval, and a last one when the export stops.

use std::sync::Arc;
use std::time::SystemTime;

use isomer_telemetry::metrics::{MetricScope, Metrics};
use isomer_telemetry::unix_ns;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::batch::stopped;
use super::client::Client;
use super::sender::{BatchSender, body};
use crate::metrics::{ProcessIdentity, Times, encode};
use crate::resource::ResourceTemplate;
use crate::statistics::SignalCounters;

/// Sends snapshots of a registry.
pub(crate) struct MetricsExporter {
    sender: BatchSender,
    snapshots: Arc<Snapshots>,
}

/// Encodes the values of a registry.
struct Snapshots {
    metrics: Metrics,
    template: ResourceTemplate,
    process: ProcessIdentity,
    start_ns: u64,
}

impl MetricsExporter {
    pub(crate) fn new(
        client: Client,
        counters: Arc<SignalCounters>,
        stop: watch::Receiver<bool>,
        (metrics, template, process): (Metrics, ResourceTemplate, ProcessIdentity),
    ) -> Self {
        let snapshots = Snapshots { metrics, template, process, start_ns: unix_ns(SystemTime::now()) };
        Self { sender: BatchSender::new(client, counters, stop), snapshots: Arc::new(snapshots) }
    }

    /// Sends snapshots until the exporter is stopped.
    pub(crate) async fn run(mut self) {
        let period = self.sender.settings().delay;
        let mut stop = self.sender.stop();
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                biased;
                () = stopped(&mut stop) => true,
                _ = ticks.tick() => false,
            };
            self.send().await;
            if is_last {
                return;
            }
        }
    }

    async fn send(&mut self) {
        let (snapshots, is_compressed) = (self.snapshots.clone(), self.sender.settings().is_compressed);
        // Encoding a snapshot of many apps takes milliseconds, which is too long for a thread of the executor.
        let encoded = tokio::task::spawn_blocking(move || snapshots.encode());
        for (encoded, points) in encoded.await.unwrap_or_default() {
            self.sender.send(body(encoded, is_compressed), points, false).await;
        }
    }
}

impl Snapshots {
    fn encode(&self) -> Vec<(Vec<u8>, usize)> {
        let snapshot = self.metrics.snapshot(MetricScope::All);
        let times = Times { start_ns: self.start_ns, now_ns: unix_ns(SystemTime::now()) };
        encode(&snapshot, &self.template, &self.process, times)
    }
}
