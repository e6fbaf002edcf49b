//! The task that sends the batches of a signal that has a queue: traces or logs.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::batch::Batches;
use super::client::Client;
use super::sender::{BatchSender, body};
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
    sender: BatchSender,
}

impl<T: Item> Exporter<T> {
    pub(crate) fn new(
        client: Client,
        queue: mpsc::Receiver<Queued<T>>,
        counters: Arc<SignalCounters>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let settings = client.settings();
        let batches = Batches::new(queue, settings.batch_records_max, settings.delay);
        Self { batches, sender: BatchSender::new(client, counters, stop) }
    }

    /// Sends batches until the exporter is stopped and all waiting items were sent or dropped.
    pub(crate) async fn run(mut self) {
        let mut stop = self.sender.stop();
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
        let is_compressed = self.sender.settings().is_compressed;
        // Encoding and compressing a large batch takes milliseconds, which is too long for a thread of the executor.
        let encoded = tokio::task::spawn_blocking(move || {
            let items: Vec<&T> = batch.iter().map(|queued| &queued.item).collect();
            let body = body(T::encode(&items), is_compressed);
            (batch, body)
        });
        let Ok((mut batch, body)) = encoded.await else {
            self.sender.add_dropped(DropReason::Shutdown, records);
            return None;
        };
        if self.sender.send(body, records, batch.len() > 1).await {
            return None;
        }
        let second = batch.split_off(batch.len() / 2);
        Some((batch, second))
    }
}
