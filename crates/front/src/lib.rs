//! The front door: from a TCP connection to a group's handler and back.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`server`] | listening, connections and their limits, graceful stop |
//! | `service` | one request: admission, host, route, guest, answer |
//! | `host` | the host that a request is for, in the one form in which hosts are compared |
//! | [`door`] | who answers for a host: asked for every request |
//! | [`admission`] | how many requests a tenant may have at once, and how fast they may come |
//! | [`site`] | what is served: routes and their targets, swapped as a whole |
//! | [`probe`] | a request of the platform's own: does a site work? |
//! | `incoming` | the request's body: its size and its pace |
//! | `outgoing` | the response's body, and the access log's line when it ends |
//! | `deadline` | a request ends in time though its client does not read |
//! | `idle` | the end of a connection that nobody uses |
//! | `problem` | errors as `application/problem+json`; the one place that chooses a status code for a failure |
//! | `trace` | request ids and W3C trace context |
//! | `socket` | a connection whose peer does not read, or does not begin, is closed |
//! | [`tls`] | certificates: chosen by name, read again on request; which hosts a connection is for |
//!
//! The only crate that names the HTTP server. It does not know what is behind a group: components, plans and stores are not here.
//!
//! Invariant: every wait has a limit ([`Limits`]), and whatever a client sends is answered or closed.

pub mod admission;
mod deadline;
pub mod door;
mod host;
mod idle;
mod incoming;
mod outgoing;
pub mod probe;
mod problem;
pub mod server;
mod service;
pub mod site;
mod socket;
pub mod tls;
mod trace;

pub use admission::{Admission, AdmissionCounts, AdmissionLimits, Place};
pub use door::{Door, Entered, Entering, Refusal};
pub use probe::{ProbeError, probe};
pub use server::{Front, FrontError, Limits, bind};
pub use site::{Site, Target};
pub use tls::{CertificateFiles, Certificates, Loaded, TlsError, TlsSettings};
