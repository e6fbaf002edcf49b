//! The parts that every server of the platform uses: accepting connections, limiting resources, and draining.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`accept`] | the accept loop, and its reaction to a process without free file descriptors |
//! | [`tcp`] | TCP listeners that drain without losing a connection |
//! | [`socket_file`] | the file of a Unix socket: its permissions, its owner, stale files |
//! | [`write_timeout`] | streams that fail if their peer does not read |
//! | [`limiter`] | permits: how many units of a resource are in use, and how many may be |
//! | [`fair_limiter`] | permits that tenants share fairly |
//! | [`in_flight`] | guards that count running work |
//! | [`backoff`] | pauses between attempts, with jitter |
//! | [`network`] | client networks, by which connections are counted, and networks of trusted proxies |
//!
//! This crate implements no protocol above TCP, and depends on no other crate of the project.
//!
//! | rejected | why |
//! | --- | --- |
//! | `tokio-io-timeout` for [`WriteTimeout`] | hyper and rustls need streams that are `Unpin`, which its streams are not, so each connection would be boxed; and each connection would always have a timer, but here a timer exists only while a write waits |
//! | `tokio_util::task::TaskTracker` for [`InFlight`] | it keeps a queue of waiters behind a lock, which each request would take although no task waits here; and it needs the feature `rt` of `tokio-util`, which no other dependency enables |
#![forbid(unsafe_code)]

pub mod accept;
pub mod backoff;
pub mod fair_limiter;
pub mod in_flight;
pub mod limiter;
pub mod network;
pub mod socket_file;
pub mod tcp;
pub mod write_timeout;

pub use accept::{Acceptor, ResourceShortage, accept_until};
pub use backoff::{Backoff, Jitter};
pub use fair_limiter::{FairLimiter, FairPermit};
pub use in_flight::{InFlight, InFlightGuard};
pub use limiter::{Limiter, Permit};
pub use network::{ClientNetwork, IpNetwork};
pub use socket_file::{SocketFile, SocketFileError};
pub use tcp::{AcceptedTcp, TcpListeners};
pub use write_timeout::WriteTimeout;
