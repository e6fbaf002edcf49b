//! The node as its clients see it: apps made of the test guests, asked over HTTP.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `http` | the protocol: methods, routes, versions, problems |

#[path = "../harness/mod.rs"]
mod harness;

mod http;
