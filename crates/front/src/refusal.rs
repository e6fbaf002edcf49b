//! The reasons why a request is not admitted.

use std::time::Duration;

/// The reason why a request is not admitted. Each reason has its own problem for the client; none tells one tenant
/// about another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No app has the host name: 404 (misdirected requests and unknown host names get the same response).
    #[error("no app is served under this host name")]
    NoHost,
    /// The app is being built for the first time: 503 with `retry-after: 1`.
    #[error("the app is still being built")]
    NotBuilt,
    /// The app was stopped: 503.
    #[error("the app is stopped")]
    Stopped,
    /// The rate of the tenant's requests is too high: 429 with `retry-after`.
    #[error("the tenant's requests come faster than its quota allows")]
    Rate {
        /// The time until the next request is admitted.
        retry_after: Duration,
    },
    /// The tenant has its maximum number of requests in flight: 429.
    #[error("the tenant has as many requests in flight as its quota allows")]
    Concurrency,
    /// The tenant's guests have used up their processor time: 429 with `retry-after`.
    #[error("the tenant has used the processor time that its quota allows")]
    Cpu {
        /// The time until processor time is available again.
        retry_after: Duration,
    },
    /// Too many apps are being loaded: 503 with `retry-after: 1`.
    #[error("too many apps are being loaded")]
    Loading,
    /// The app cannot be loaded: 500. The reason is in the node's log.
    #[error("the app cannot be started")]
    Broken,
}
