//! A node as its clients see it: requests over HTTP to apps of the test guests.
//!
//! | file | what it tests |
//! | --- | --- |
//! | `http` | the protocol: methods, routes, versions, problems |
//! | `requests` | what a guest learns of a request, and which requests it does not get |
//! | `responses` | what happens to a guest's response: without content, cut off, streamed, compressed |
//! | `front_door` | which requests are admitted, under which name, and for how long |
//! | `limits` | what a client may do, and for how long |
//! | `streaming` | bodies in both directions, and clients that disconnect |
//! | `failure` | guests that trap, loop, or exceed a limit |
//! | `handlers` | handlers of WASI 0.2 that violate the interface |
//! | `instances` | which instance serves a request, and how many there are |
//! | `lifecycle` | a new revision, and the stop of the node |
//! | `capabilities` | what is granted, and what is not |
//! | `fused` | two components in one group |
//! | `seams` | components that are not fused |
//! | `tls` | certificates, and which requests a connection permits |
//! | `clock_and_random` | the clock and randomness of tests |

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../hostile/wat_components.rs"]
mod wat_components;

mod capabilities;
mod clock_and_random;
mod failure;
mod front_door;
mod fused;
mod handlers;
mod http;
mod instances;
mod lifecycle;
mod limits;
mod requests;
mod responses;
mod seams;
mod streaming;
mod tls;
