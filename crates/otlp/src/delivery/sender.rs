//! Sends the encoded batches of one signal, each until it is accepted or dropped.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use isomer_transport::Jitter;
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempts::{Attempts, Outcome, Step};
use super::batch::stopped;
use super::client::Client;
use super::failure_log::FailureLog;
use crate::settings::SignalSettings;
use crate::statistics::{DropReason, SignalCounters};

/// Sends encoded batches.
pub(super) struct BatchSender {
    client: Client,
    counters: Arc<SignalCounters>,
    failures: FailureLog,
    jitter: Jitter,
    stop: watch::Receiver<bool>,
}

impl BatchSender {
    pub(super) fn new(client: Client, counters: Arc<SignalCounters>, stop: watch::Receiver<bool>) -> Self {
        let settings = client.settings();
        let failures = FailureLog::new(settings.signal, settings.endpoint.clone());
        Self { client, counters, failures, jitter: Jitter::new(), stop }
    }

    pub(super) fn settings(&self) -> &SignalSettings {
        self.client.settings()
    }

    /// Returns the channel that tells whether the export stops.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// Counts records that were dropped before they could be sent.
    pub(super) fn add_dropped(&self, reason: DropReason, records: usize) {
        self.counters.add_dropped(reason, records);
    }

    /// Sends `body` until it is accepted or dropped. Returns `false` if it must be split.
    pub(super) async fn send(&mut self, body: Bytes, records: usize, can_split: bool) -> bool {
        let mut attempts = Attempts::new(self.client.settings().retry_time);
        let start = Instant::now();
        loop {
            let outcome = self.client.send(body.clone()).await;
            if let Outcome::Failed { reason, .. } = &outcome {
                self.failures.failed(reason, self.counters.dropped());
            }
            let is_stopping = *self.stop.borrow();
            let spread = |pause| self.jitter.spread(pause);
            match attempts.next(outcome, start.elapsed(), can_split, is_stopping, spread) {
                Step::Done { rejected, message } => {
                    self.accepted(records, rejected, &message);
                    return true;
                }
                Step::Split => return false,
                Step::Drop(why, reason) => {
                    self.counters.add_dropped(why, records);
                    self.failures.failed(&reason, self.counters.dropped());
                    return true;
                }
                Step::Retry(pause) => tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    // The export stops: one last attempt is made without waiting for the end of the pause.
                    () = stopped(&mut self.stop) => {}
                },
            }
        }
    }

    fn accepted(&mut self, records: usize, rejected: usize, message: &str) {
        let rejected = rejected.min(records);
        self.counters.add_exported(records - rejected);
        if rejected > 0 {
            self.counters.add_dropped(DropReason::Rejected, rejected);
            self.failures
                .failed(&format!("the collector rejected a part of the records: {message}"), self.counters.dropped());
        } else {
            self.failures.succeeded(self.counters.dropped());
        }
    }
}

/// Returns the body of a request, compressed if the settings say so.
pub(super) fn body(encoded: Vec<u8>, is_compressed: bool) -> Bytes {
    if !is_compressed {
        return encoded.into();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&encoded);
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    encoder.finish().unwrap_or_default().into()
}
