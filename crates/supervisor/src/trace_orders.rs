//! Orders to trace the next requests, which the supervisor passes on to the member with the front door.
//!
//! The supervisor keeps each order until all its requests were traced. So a process that is started in place of another
//! one receives the rest of the orders, and a process that does not accept connections yet receives none.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The maximum number of orders that are kept. A further order replaces the oldest.
pub(crate) const ORDERS_MAX: usize = 16;

/// An order to trace the next requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTraces {
    /// The path of the requests, or a path above it. The empty text matches all requests.
    pub path: String,
    /// The number of requests that are still to be traced.
    pub requests: u32,
}

/// The orders whose requests were not all traced yet. Cheap to clone; clones share the orders.
#[derive(Debug, Clone, Default)]
pub struct TraceOrders(watch::Sender<Vec<NextTraces>>);

impl TraceOrders {
    /// Adds an order, and passes it on to the member with the front door.
    pub fn add(&self, order: NextTraces) {
        self.0.send_modify(|orders| {
            if orders.len() == ORDERS_MAX {
                orders.remove(0);
            }
            orders.push(order);
        });
    }

    /// Returns whether there are no orders.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Returns the orders, each with the number of requests that are still to be traced.
    pub fn rest(&self) -> Vec<NextTraces> {
        self.0.borrow().clone()
    }

    /// Counts a request that was traced. `is_ordered` decides, from the path of an order, whether the order includes the
    /// request. The first such order is filled, as in the process that traced the request.
    pub fn count(&self, is_ordered: impl Fn(&str) -> bool) {
        self.0.send_if_modified(|orders| {
            if let Some(position) = orders.iter().position(|order| is_ordered(&order.path)) {
                orders[position].requests = orders[position].requests.saturating_sub(1);
                if orders[position].requests == 0 {
                    orders.remove(position);
                }
            }
            // The process that traced the request counts for itself.
            false
        });
    }

    /// Returns a receiver of the orders for one process. It receives the current orders first.
    pub(crate) fn receiver(&self) -> watch::Receiver<Vec<NextTraces>> {
        let mut orders = self.0.subscribe();
        orders.mark_changed();
        orders
    }
}

/// Returns the orders when they have changed. They replace those that the process received earlier. Waits forever without
/// a receiver, or if the orders do not change any more. Cancel safe.
pub(crate) async fn next(orders: &mut Option<watch::Receiver<Vec<NextTraces>>>) -> Vec<NextTraces> {
    if let Some(receiver) = orders
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn order(path: &str, requests: u32) -> NextTraces {
        NextTraces { path: path.to_owned(), requests }
    }

    #[test]
    fn a_later_process_receives_the_rest_of_the_orders() {
        let orders = TraceOrders::default();
        let mut first = Some(orders.receiver());
        assert_eq!(next(&mut first).now_or_never(), Some(Vec::new()));
        orders.add(order("/cart", 2));
        orders.add(order("", 3));
        assert_eq!(next(&mut first).now_or_never(), Some(vec![order("/cart", 2), order("", 3)]));
        for path in ["/cart", "/", "/cart", "/cart"] {
            orders.count(|ordered| ordered.is_empty() || ordered == path);
        }
        assert_eq!(next(&mut first).now_or_never(), None, "the process has counted the requests itself");
        drop(first);
        let mut second = Some(orders.receiver());
        assert_eq!(next(&mut second).now_or_never(), Some(vec![order("", 1)]));
        orders.count(|_| true);
        orders.count(|_| true);
        assert!(orders.is_empty() && orders.rest().is_empty());
        assert_eq!(next(&mut None).now_or_never(), None);
    }

    #[test]
    fn the_oldest_orders_are_replaced() {
        let orders = TraceOrders::default();
        for requests in 0..=ORDERS_MAX {
            orders.add(order("/", u32::try_from(requests).unwrap()));
        }
        let rest = orders.rest();
        assert_eq!((rest.len(), rest[0].requests), (ORDERS_MAX, 1));
    }
}
