//! The pieces that every server of the platform is made of: accepting connections, bounding what they use, and draining them.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`accept`] | the accept loop, and what it does when a process has no descriptor left |
//! | [`tcp`] | TCP listeners that drain without losing a connection |
//! | [`socket_file`] | the file of a Unix socket: its permissions, its owner, stale files |
//! | [`write_timeout`] | streams whose peer has to keep reading |
//! | [`limiter`] | permits: how many units of a resource are in use, and how many may be |
//! | [`fair_limiter`] | the same, shared fairly between the tenants that use it |
//! | [`in_flight`] | guards that count running work |
//! | [`backoff`] | pauses between attempts, with jitter |
//! | [`network`] | client networks, the unit in which connections are counted, and networks of trusted proxies |
//!
//! This crate knows no protocol above TCP, and no other crate of the project.
//!
//! | rejected | why |
//! | --- | --- |
//! | `tokio-io-timeout` for [`WriteTimeout`] | its streams are not `Unpin`, which hyper and rustls need, so each connection would be boxed; and its timer is part of every connection, where ours exists only while a write waits |
//! | `tokio_util::task::TaskTracker` for [`InFlight`] | it keeps a queue of waiters behind a lock, which each request would take, and nothing here waits; and its feature `rt` is not in the tree |
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
