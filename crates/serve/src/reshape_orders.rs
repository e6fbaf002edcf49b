//! Orders to reshape the app, from the admin API to the loop that serves the app.

use isomer_api::{ApiProblem, DeployReport, ProblemKind};
use tokio::sync::{mpsc, oneshot};

/// An order to run the app in another shape.
pub struct ReshapeOrder {
    /// The name of the shape.
    pub(crate) shape: String,
    pub(crate) reply: oneshot::Sender<Result<DeployReport, ApiProblem>>,
}

/// The maximum number of orders that wait while the app changes. Further orders are refused.
const ORDERS_MAX: usize = 1;

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

/// Passes the order to reshape the app into `shape` on, and returns the reply.
pub(crate) async fn order(sender: mpsc::Sender<ReshapeOrder>, shape: String) -> Result<DeployReport, ApiProblem> {
    let (reply, replied) = oneshot::channel();
    sender.try_send(ReshapeOrder { shape, reply }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => ApiProblem::new(ProblemKind::Conflict, "the app is being changed")
            .hint("try again when the change has ended"),
        mpsc::error::TrySendError::Closed(_) => stopping(),
    })?;
    replied.await.unwrap_or_else(|_| Err(stopping()))
}

fn stopping() -> ApiProblem {
    ApiProblem::new(ProblemKind::Unavailable, "the process shuts down")
}
