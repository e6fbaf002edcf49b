//! Orders to trace the next requests, which the supervisor passes on to the member with the front door.

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The maximum number of orders that wait until a member's process receives them. A further order replaces the oldest.
pub(crate) const ORDERS_WAITING_MAX: usize = 16;

/// An order to trace the next requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTraces {
    /// The path of the requests, or a path above it. The empty text matches all requests.
    pub path: String,
    /// The number of requests to trace.
    pub requests: u32,
}

/// Passes orders on to the member with the front door. Cheap to clone. Orders that a process has not filled when it ends
/// are forgotten.
#[derive(Debug, Clone)]
pub struct TraceOrders(broadcast::Sender<NextTraces>);

impl Default for TraceOrders {
    fn default() -> Self {
        Self(broadcast::Sender::new(ORDERS_WAITING_MAX))
    }
}

impl TraceOrders {
    /// Passes an order on. Returns `false` if no process with the front door runs.
    pub fn send(&self, order: NextTraces) -> bool {
        self.0.send(order).is_ok()
    }

    pub(crate) fn receiver(&self) -> broadcast::Receiver<NextTraces> {
        self.0.subscribe()
    }
}

/// Returns the next order. Skips orders that were replaced, and waits forever if there will be no more.
pub(crate) async fn next(orders: &mut Option<broadcast::Receiver<NextTraces>>) -> NextTraces {
    let Some(receiver) = orders else { return std::future::pending().await };
    loop {
        match receiver.recv().await {
            Ok(order) => return order,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn an_order_reaches_one_process_and_the_oldest_are_replaced() {
        let orders = TraceOrders::default();
        let order = |requests| NextTraces { path: "/".to_owned(), requests };
        assert!(!orders.send(order(1)), "no process runs");
        let mut process = Some(orders.receiver());
        assert!(next(&mut process).now_or_never().is_none(), "an earlier order is forgotten");
        for requests in 0..=ORDERS_WAITING_MAX {
            assert!(orders.send(order(u32::try_from(requests).unwrap())));
        }
        assert_eq!(next(&mut process).now_or_never().map(|order| order.requests), Some(1));
        assert!(next(&mut None).now_or_never().is_none());
        drop(orders);
        let rest = (0..ORDERS_WAITING_MAX).filter_map(|_| next(&mut process).now_or_never()).count();
        assert_eq!(rest, ORDERS_WAITING_MAX - 1);
    }
}
