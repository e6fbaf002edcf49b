//! Collects waiting items into batches.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::queue::Queued;

/// The maximum size of a batch in bytes, approximately. Collectors refuse requests that are too large, often from 4 MiB
/// or 20 MiB on.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Collects the items of a signal's queue into batches.
pub(super) struct Batches<T> {
    queue: mpsc::Receiver<Queued<T>>,
    /// The item that did not fit into the previous batch, if any.
    next: Option<Queued<T>>,
    records_max: usize,
    delay: Duration,
}

impl<T> Batches<T> {
    pub(super) fn new(queue: mpsc::Receiver<Queued<T>>, records_max: usize, delay: Duration) -> Self {
        Self { queue, next: None, records_max, delay }
    }

    /// Returns the next batch when it is full, when its first item has waited for the delay, or when `stop` becomes
    /// true. Returns `None` if `stop` is true and no item waits.
    ///
    /// An item with more records than the maximum is a batch by itself.
    pub(super) async fn next(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Vec<Queued<T>>> {
        let first = match self.next.take() {
            Some(item) => item,
            None => tokio::select! {
                biased;
                item = self.queue.recv() => item?,
                () = stopped(stop) => {
                    // Items that are added after the stop are dropped and counted. Waiting items are still returned.
                    self.queue.close();
                    self.queue.recv().await?
                }
            },
        };
        let deadline = Instant::now() + self.delay;
        let (mut records, mut bytes) = (first.weight().records, first.weight().bytes);
        let mut batch = vec![first];
        while records < self.records_max && bytes < BATCH_BYTES_MAX {
            let item = tokio::select! {
                biased;
                item = self.queue.recv() => item,
                () = stopped(stop) => None,
                () = tokio::time::sleep_until(deadline) => None,
            };
            let Some(item) = item else { break };
            let weight = item.weight();
            if records + weight.records > self.records_max || bytes + weight.bytes > BATCH_BYTES_MAX {
                self.next = Some(item);
                break;
            }
            records += weight.records;
            bytes += weight.bytes;
            batch.push(item);
        }
        Some(batch)
    }
}

/// Waits until `stop` is true, or its sender is dropped.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::{Weight, bounded};

    fn names(batch: Option<Vec<Queued<char>>>) -> Option<String> {
        batch.map(|batch| batch.into_iter().map(|queued| queued.item).collect())
    }

    #[tokio::test]
    async fn a_batch_is_complete_when_it_is_full_or_the_export_stops() {
        let (sender, queue) = bounded(100, Arc::default());
        let (stopping, mut stop) = watch::channel(false);
        let push = |name, records, bytes| sender.push(name, Weight { records, bytes, tenant: None });
        let mut batches = Batches::new(queue, 3, Duration::from_secs(3600));
        push('a', 1, 1);
        push('b', 2, 1);
        push('c', 1, 1);
        push('d', 5, 1);
        push('e', 1, BATCH_BYTES_MAX);
        push('f', 1, 1);
        for expected in ["ab", "c", "d", "e"] {
            assert_eq!(names(batches.next(&mut stop).await).as_deref(), Some(expected));
        }
        let (last, ()) = tokio::join!(batches.next(&mut stop), async {
            stopping.send_replace(true);
        });
        assert_eq!(names(last).as_deref(), Some("f"));
        push('g', 1, 1);
        assert_eq!(names(batches.next(&mut stop).await).as_deref(), Some("g"));
        assert_eq!(names(batches.next(&mut stop).await), None);
        push('h', 1, 1);
        assert_eq!(names(batches.next(&mut stop).await), None);
    }

    #[tokio::test]
    async fn a_batch_is_complete_after_the_delay() {
        let (sender, queue) = bounded(100, Arc::default());
        let (_stopping, mut stop) = watch::channel(false);
        let mut batches = Batches::new(queue, 3, Duration::from_millis(1));
        sender.push('a', Weight { records: 1, bytes: 1, tenant: None });
        assert_eq!(names(batches.next(&mut stop).await).as_deref(), Some("a"));
    }
}
