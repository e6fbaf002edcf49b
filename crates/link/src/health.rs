//! A health check of an address, for programs that supervise the server at that address.

use std::time::Instant;

use isomer_transport::Limiter;
use tokio::task::JoinSet;

use crate::address::Address;
use crate::client_connection::ClientConnection;
use crate::connect::connect;
use crate::limits::PeerLimits;
use crate::tls::Tls;

/// Connects to `address` and sends `GET /`. Makes one attempt, which ends by `deadline`.
///
/// # Errors
/// The reason, if no successful response arrives by `deadline`.
pub async fn health(address: &Address, tls: Option<&Tls>, deadline: Instant) -> Result<(), String> {
    // Dropping the set aborts the connection's task.
    let mut tasks = JoinSet::new();
    let check = async {
        let stream = connect(address, tls).await?;
        let limits = PeerLimits::default();
        let result_bytes = Limiter::new(limits.results_bytes_max);
        let (connection, _ended) = ClientConnection::open(stream, &limits, result_bytes, &mut tasks).await?;
        connection.check_health().await.map_err(|failed| failed.reason)
    };
    let checked = tokio::time::timeout_at(deadline.into(), check).await;
    checked.unwrap_or_else(|_| Err("it does not respond".to_owned())).map_err(|reason| format!("`{address}`: {reason}"))
}
