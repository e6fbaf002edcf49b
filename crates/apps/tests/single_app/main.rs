//! The node as its clients see it: apps made of the test guests, asked over HTTP.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `http` | the protocol: methods, routes, versions, problems |
//! | `requests` | what a guest is told of a request, and which requests it does not see |
//! | `responses` | what becomes of a guest's response: without content, cut off, streamed, compressed |
//! | `door` | who is let in, under which name, and for how long |
//! | `limits` | what a client may do, and how long |
//! | `streaming` | bodies on their way, in both directions, and clients that go away |
//! | `failure` | guests that trap, loop, or want too much |
//! | `handlers` | handlers of WASI 0.2 in which something is not as it should be |
//! | `instances` | which instance serves a request, and how many |
//! | `lifecycle` | a new revision, and the end |
//! | `capabilities` | what is granted, and what is not |
//! | `fused` | two components in one group |
//! | `seams` | components that are not fused |
//! | `tls` | certificates, and what may be asked for over a connection |
//! | `given` | the clock and randomness of tests |

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
