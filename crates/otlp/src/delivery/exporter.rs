//! The task that sends the batches of one signal.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use isomer_transport::Jitter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::attempts::{Attempts, Outcome, Step};
use super::batch::{Batches, stopped};
use super::client::Client;
use super::failure_log::FailureLog;
use crate::queue::Queued;
use crate::statistics::{DropReason, SignalCounters};

/// An item of a signal's queue.
pub(crate) trait Item: Send + Sync + Sized + 'static {
    /// Returns the body of a request with all `items`.
    fn encode(items: &[&Self]) -> Vec<u8>;
}

/// Sends the items of one signal's queue.
pub(crate) struct Exporter<T> {
    batches: Batches<T>,
    sender: Sender,
}

/// Sends encoded batches.
struct Sender {
    client: Client,
    counters: Arc<SignalCounters>,
    failures: FailureLog,
    jitter: Jitter,
    stop: watch::Receiver<bool>,
}

impl<T: Item> Exporter<T> {
    pub(crate) fn new(
        client: Client,
        queue: mpsc::Receiver<Queued<T>>,
        counters: Arc<SignalCounters>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let settings = client.settings();
        let failures = FailureLog::new(settings.signal, settings.endpoint.clone());
        let batches = Batches::new(queue, settings.batch_records_max, settings.delay);
        Self { batches, sender: Sender { client, counters, failures, jitter: Jitter::new(), stop } }
    }

    /// Sends batches until the exporter is stopped and all waiting items were sent or dropped.
    pub(crate) async fn run(mut self) {
        let mut stop = self.sender.stop.clone();
        while let Some(batch) = self.batches.next(&mut stop).await {
            let mut parts = vec![batch];
            while let Some(part) = parts.pop() {
                if let Some((first, second)) = self.deliver(part).await {
                    parts.extend([second, first]);
                }
            }
        }
    }

    /// Sends a batch until it is accepted or dropped. Returns the two halves of the batch if it is too large.
    async fn deliver(&mut self, batch: Vec<Queued<T>>) -> Option<(Vec<Queued<T>>, Vec<Queued<T>>)> {
        let records: usize = batch.iter().map(|queued| queued.weight().records).sum();
        let is_compressed = self.sender.client.settings().is_compressed;
        // Encoding and compressing a large batch takes milliseconds.
        let encoded = tokio::task::spawn_blocking(move || {
            let items: Vec<&T> = batch.iter().map(|queued| &queued.item).collect();
            let body = encode(&items, is_compressed);
            (batch, body)
        });
        let Ok((mut batch, body)) = encoded.await else {
            self.sender.counters.add_dropped(DropReason::Shutdown, records);
            return None;
        };
        if self.sender.send(body, records, batch.len() > 1).await {
            return None;
        }
        let second = batch.split_off(batch.len() / 2);
        Some((batch, second))
    }
}

impl Sender {
    /// Sends `body` until it is accepted or dropped. Returns `false` if it must be split.
    async fn send(&mut self, body: Bytes, records: usize, can_split: bool) -> bool {
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
                    // One last attempt is made at once.
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
            self.failures.failed(&format!("the collector rejected a part: {message}"), self.counters.dropped());
        } else {
            self.failures.succeeded(self.counters.dropped());
        }
    }
}

fn encode<T: Item>(items: &[&T], is_compressed: bool) -> Bytes {
    let body = T::encode(items);
    if !is_compressed {
        return body.into();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&body);
    debug_assert!(written.is_ok(), "writing to memory cannot fail");
    encoder.finish().unwrap_or_default().into()
}
