//! Orders to reshape the app, from the admin API to the loop that serves the app.

use std::time::Duration;

use isomer_api::{ApiProblem, DeployReport, ProblemKind};
use tokio::sync::{mpsc, oneshot};

/// An order to run the app in another shape.
pub struct ReshapeOrder {
    /// The name of the shape.
    pub(crate) shape: String,
    /// Sends a message when the execution of the order starts. The receiver is dropped if the client no longer waits.
    pub(crate) started: oneshot::Sender<()>,
    pub(crate) reply: oneshot::Sender<Result<DeployReport, ApiProblem>>,
}

/// The maximum number of orders that wait while the app changes. Further orders are refused.
const ORDERS_MAX: usize = 1;

/// The maximum time that an order waits until its execution starts.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The receiver of the orders.
pub struct ReshapeOrders(mpsc::Receiver<ReshapeOrder>);

impl ReshapeOrders {
    /// Creates the receiver, and the sender for the admin API.
    pub(crate) fn channel() -> (mpsc::Sender<ReshapeOrder>, Self) {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        (sender, Self(receiver))
    }

    /// Returns the next order. Cancel safe.
    pub async fn next(&mut self) -> ReshapeOrder {
        match self.0.recv().await {
            Some(order) => order,
            // Without an admin API, there are no orders.
            None => std::future::pending().await,
        }
    }
}

/// Sends an order to reshape the app into `shape`, and waits for the reply. If the future is dropped before the
/// execution has started, the order is discarded.
pub(crate) async fn order(sender: mpsc::Sender<ReshapeOrder>, shape: String) -> Result<DeployReport, ApiProblem> {
    order_within(WAIT_MAX, sender, shape).await
}

async fn order_within(
    wait_max: Duration,
    sender: mpsc::Sender<ReshapeOrder>,
    shape: String,
) -> Result<DeployReport, ApiProblem> {
    let ((started, has_started), (reply, replied)) = (oneshot::channel(), oneshot::channel());
    sender.try_send(ReshapeOrder { shape, started, reply }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => being_changed(),
        mpsc::error::TrySendError::Closed(_) => stopping(),
    })?;
    match tokio::time::timeout(wait_max, has_started).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(stopping()),
        Err(_) => return Err(being_changed()),
    }
    replied.await.unwrap_or_else(|_| Err(stopping()))
}

fn being_changed() -> ApiProblem {
    ApiProblem::new(ProblemKind::Conflict, "the app is being changed").hint("try again when the change has ended")
}

fn stopping() -> ApiProblem {
    ApiProblem::new(ProblemKind::Unavailable, "the process shuts down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_waits_too_long_is_refused_and_discarded() {
        let (sender, mut orders) = ReshapeOrders::channel();
        let problem = order_within(Duration::ZERO, sender.clone(), "split".to_owned()).await.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Conflict);
        assert!(orders.next().await.started.send(()).is_err(), "the order is executed without a client");
        let (replied, ()) = tokio::join!(order(sender, "split".to_owned()), async {
            let order = orders.next().await;
            order.started.send(()).unwrap();
            drop(order.reply);
        });
        assert_eq!(replied.unwrap_err().kind, ProblemKind::Unavailable);
    }
}
