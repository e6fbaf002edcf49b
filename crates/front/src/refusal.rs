//! The reasons why a request is not admitted.

use std::time::Duration;

/// The reason why a request is not admitted. For each reason, the client gets a different problem, which reveals
/// nothing about other tenants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No app has the host name: status 404. A request that names no host gets status 400 instead.
    #[error("no app is served under this host name")]
    NoHost,
    /// The app is being built for the first time: status 503 with `retry-after: 1`.
    #[error("the app is still being built")]
    NotBuilt,
    /// The app was stopped: status 503.
    #[error("the app is stopped")]
    Stopped,
    /// The rate of the tenant's requests exceeds its quota: status 429 with `retry-after`.
    #[error("the rate of requests exceeds the tenant's quota")]
    Rate {
        /// The time until the next request is admitted.
        retry_after: Duration,
    },
    /// The tenant has its maximum number of requests in flight: status 429.
    #[error("the tenant has as many requests in flight as its quota allows")]
    Concurrency,
    /// The tenant's guests have used up their processor time: status 429 with `retry-after`.
    #[error("the tenant has used up the processor time of its quota")]
    Cpu {
        /// The time until processor time is available again.
        retry_after: Duration,
    },
    /// Too many apps are being loaded: status 503 with `retry-after: 1`.
    #[error("too many apps are being loaded")]
    Loading,
    /// The app cannot be loaded: status 500. The reason is in the node's log.
    #[error("the app cannot be started")]
    Broken,
}
