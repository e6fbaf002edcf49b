//! The front door: the HTTP server between a client's TCP connection and the handlers of apps.
//!
//! Connections:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`server`] | the front door: listeners, serving, draining |
//! | [`limits`] | all limits |
//! | [`registry`] | the maximum number of connections, and which connection is closed to make room |
//! | [`proxies`], `proxy_protocol` | trusted proxies; the client address that a proxy announces for a connection |
//! | `connection` | one connection: handshake, version of HTTP, requests, closing |
//! | `socket` | a TCP or TLS stream: timeouts for a silent or non-reading peer; closing without losing data |
//! | [`tls`] | certificates: chosen by host name, reloaded on request; the hosts that a client may request over a connection |
//! | `activity` | whether a connection is in use, and how long it has been idle |
//! | `response_deadline` | ends a request at its deadline even if its client does not read |
//!
//! Requests. `pipeline` is the path of a request as a list of layers; start reading there.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `pipeline` | the layers of a request, in their order |
//! | `request_checks` | limits, and responses that the front door generates |
//! | `host`, `path` | the normal forms of host names and paths |
//! | `forwarded` | the client of a request, and the header fields that describe the client to a guest |
//! | `admission`, [`resolver`], `refusal` | the app of a host name, and whether it admits the request |
//! | `routing`, [`site`] | the component of a path, and the limits for requests to it |
//! | [`handler`], `failure_kind` | the interface to the code that runs the request |
//! | `tab_requests` | the requests of tabs, whose decisions are in `isomer-gateway` |
//! | `request_body` | the request's body: its maximum size, and the timeout for each piece |
//! | `response_head`, `response_body`, `response_error`, `response_semantics` | the response, and what happens when it ends |
//! | `appended_body` | a body with bytes that the front door appends |
//! | `event_stream`, `interruption` | the time limits of a stream of server-sent events; why a response is cut off |
//! | `negotiation`, `compressor` | whether a response is compressed; compressing it |
//! | `access_log`, `request_span`, `request_record` | the access-log line and the span of a request |
//! | `problem` | errors as `application/problem+json`; the only place that chooses the status of a failure |
//! | `trace` | the header field of W3C Trace Context |
//! | [`probe`](mod@probe) | a request of the platform itself, to check whether a site works |
//!
//! Except for the admin API, only this crate uses hyper's server. This crate does not know the engine: it has no
//! components, plans or stores.
//!
//! Invariant: every wait has a limit ([`Limits`]). Whatever a client sends, the client gets a response, or its
//! connection is closed.

mod access_log;
mod activity;
mod admission;
mod appended_body;
mod compressor;
mod connection;
mod event_stream;
mod failure_kind;
#[cfg(test)]
mod fake;
mod forwarded;
pub mod handler;
mod host;
mod interruption;
pub mod limits;
mod negotiation;
mod path;
mod pipeline;
pub mod probe;
mod problem;
pub mod proxies;
mod proxy_protocol;
mod refusal;
pub mod registry;
mod request_body;
mod request_checks;
mod request_record;
mod request_span;
pub mod resolver;
mod response_body;
mod response_deadline;
mod response_error;
mod response_head;
mod response_semantics;
mod routing;
pub mod server;
pub mod site;
mod socket;
mod tab_requests;
pub mod tls;
mod trace;

/// The gateway that serves tabs, in apps with a browser group.
pub use isomer_gateway as gateway;

pub use failure_kind::FailureKind;
pub use handler::{BodyFailure, Handler, HandlerBody, HandlerFailure, HandlerRequest};
pub use isomer_transport::IpNetwork;
pub use limits::Limits;
pub use probe::{ProbeError, probe};
pub use proxies::Proxies;
pub use refusal::Refusal;
pub use registry::{ConnectionCounts, Connections};
pub use request_body::{RequestBody, RequestBodyError};
pub use request_checks::HEALTH_PATH;
pub use resolver::{ResolvedSite, SiteLoad, SiteLookup, SiteResolver};
pub use server::{Front, FrontError, bind};
pub use site::{RouteTarget, Site, SiteInUse, SiteOwner, StreamLimits};
pub use tls::{CertificateFiles, Certificates, LoadedCertificates, TlsError, TlsSettings};
