//! A node as its clients see it: they send HTTP requests to apps whose components are test guests.
//!
//! | file | what it tests |
//! | --- | --- |
//! | `http` | the protocol: methods, routes, versions, problems |
//! | `requests` | how requests are changed before a guest gets them, and which requests no guest gets |
//! | `responses` | guests' responses: without content, cut off, streamed, compressed |
//! | `front_door` | the admission of requests: host names, limits, loading |
//! | `limits` | the limits of what a client may send |
//! | `streaming` | bodies in both directions, and clients that disconnect |
//! | `failure` | guests that trap, loop, or exceed a limit |
//! | `handlers` | handlers of WASI 0.2 that violate the interface |
//! | `instances` | which instance handles a request, and the number of instances |
//! | `lifecycle` | a new revision, and the stop of the node |
//! | `capabilities` | granted and refused capabilities |
//! | `fused` | two components in one group |
//! | `seams` | components that are not fused |
//! | `traces` | the spans of requests |
//! | `probes` | the spans of calls between fused components |
//! | `tabs` | calls from tabs, in an app with a browser group |
//! | `tls` | certificates, and which requests a connection permits |
//! | `clock_and_random` | the clock and randomness in test mode |

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../hostile/wat_components.rs"]
mod wat_components;

mod capabilities;
mod clock_and_random;
mod failure;
mod front_door;
mod fused;
mod guest_telemetry;
mod handlers;
mod http;
mod instances;
mod lifecycle;
mod limits;
mod metrics;
mod probes;
mod requests;
mod responses;
mod seams;
mod streaming;
mod tabs;
mod tls;
mod traces;
