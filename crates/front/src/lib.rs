//! The front door: from a TCP connection to a group's handler and back.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`server`] | the front door as a whole: its limits, from the first connection to the end of the last |
//! | [`places`] | how many connections there may be, and which one is closed for a new one |
//! | `proxy` | whose connection it is, where a trusted proxy says so |
//! | `connection` | one connection: handshake, version of HTTP, requests, end |
//! | `service` | one request: admission, host, route, guest, answer |
//! | `host` | the host that a request is for, in the one form in which hosts are compared |
//! | `path` | paths in the one form in which they are compared with routes |
//! | `forwarded` | whose request it is, and the fields in which a guest is told so |
//! | [`door`] | who answers for a host: asked for every request |
//! | [`site`] | what is served: routes and their targets, swapped as a whole |
//! | [`probe`] | a request of the platform's own: does a site work? |
//! | `incoming` | the request's body: its size and its pace |
//! | `outgoing` | the response's body, and the access log's line when it ends |
//! | `events` | how long a stream of server-sent events may take |
//! | `encoding` | whether a response is compressed, and what its head says then |
//! | `compress` | a response's body on its way through a compressor |
//! | `deadline` | a request ends in time though its client does not read |
//! | `traffic` | what goes on in a connection, and when nobody uses it |
//! | `problem` | errors as `application/problem+json`; the one place that chooses a status code for a failure |
//! | `trace` | request ids and W3C trace context |
//! | `socket` | a connection below HTTP: its peer has to begin and to read, and its end loses nothing |
//! | [`tls`] | certificates: chosen by name, read again on request; which hosts a connection is for |
//!
//! The only crate that names the HTTP server. It does not know what is behind a group: components, plans and stores are not here.
//!
//! Invariant: every wait has a limit ([`Limits`]), and whatever a client sends is answered or closed.

mod compress;
mod connection;
mod deadline;
pub mod door;
mod encoding;
mod events;
mod forwarded;
mod host;
mod incoming;
mod outgoing;
mod path;
pub mod places;
pub mod probe;
mod problem;
mod proxy;
pub mod server;
mod service;
pub mod site;
mod socket;
pub mod tls;
mod trace;
mod traffic;

pub use door::{Door, Entered, Entering, Refusal};
pub use isomer_transport::IpNetwork;
pub use places::{ConnectionCounts, Connections};
pub use probe::{ProbeError, probe};
pub use server::{Front, FrontError, Limits, Proxies, bind};
pub use site::{Site, SiteOwner, StreamLimits, Target};
pub use tls::{CertificateFiles, Certificates, Loaded, TlsError, TlsSettings};
