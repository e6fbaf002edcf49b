//! A health check of an address, for the supervisor of a process.

use std::time::Instant;

use isomer_transport::Limiter;
use tokio::task::JoinSet;

use crate::address::Address;
use crate::client_connection::ClientConnection;
use crate::connect::connect;
use crate::limits::PeerLimits;
use crate::tls::Tls;

/// Connects to `address` and sends `GET /` to check whether it serves. Makes one attempt, which ends by `deadline`.
///
/// # Errors
/// When it does not serve, with the reason.
pub async fn health(address: &Address, tls: Option<&Tls>, deadline: Instant) -> Result<(), String> {
    // The connection's task ends when this is dropped.
    let mut tasks = JoinSet::new();
    let asked = async {
        let stream = connect(address, tls).await?;
        let limits = PeerLimits::default();
        let answers = Limiter::new(limits.answers_bytes_max);
        let (connection, _ended) = ClientConnection::open(stream, &limits, answers, &mut tasks).await?;
        connection.check_health().await.map_err(|failed| failed.reason)
    };
    let asked = tokio::time::timeout_at(deadline.into(), asked).await;
    asked.unwrap_or_else(|_| Err("it does not respond".to_owned())).map_err(|reason| format!("`{address}`: {reason}"))
}
