//! Calls between groups that are not in one process: HTTP/2 over TCP with mutual TLS, or over Unix sockets.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`address`] | where a group is reached, as people write it |
//! | [`tls`] | who may speak with whom: certificates, key, authority |
//! | [`limits`] | every bound of both sides, with its name |
//! | [`peer`] | the client: a group behind one address or several, as a [`Callee`](isomer_wire::Callee) |
//! | [`server`] | the server: an `Arc<dyn Callee>` for others |
//! | [`health`] | one question: does somebody serve there? |
//! | [`error`] | why a side cannot be set up, with the way out |
//!
//! A call is one HTTP/2 stream: `POST /`, its body a frame of `isomer_wire` ([`isomer_wire::CallHead`] and the image), answered by
//! `200` and a frame ([`isomer_wire::ReplyHead`] and the image). What goes with a call stands in the body's binary head and not in
//! HTTP's: keys of 16 bytes that change with each call gain nothing by HPACK, and so a call's HTTP head is three bytes, all of
//! them indices of the static table. `GET /` asks whether the server serves.
//!
//! The engine is h2, the one inside hyper, used by itself: hyper's client and server put two tasks, two channels and a
//! body's machinery around each call, which cost more than the call. What comes with h2 alone: an answer that needs no waiting is
//! written by the task that read the call, everything written in one turn leaves by one system call (`cork.rs`),
//! and why a stream ended is known exactly, which is what decides whether a call may have run.
//!
//! **At most once.** A failure says whether the callee certainly did not run (`not_run`). Only such calls are tried again, and those
//! with an idempotency key, within bounds and the deadline. This holds for each attempt, not for bytes: somebody in
//! between who repeats a whole connection repeats its calls. Between machines TLS excludes that; in the clear, links are taken only
//! inside one machine.
#![forbid(unsafe_code)]

pub mod address;
pub mod error;
pub mod health;
pub mod limits;
pub mod peer;
pub mod server;
pub mod tls;

mod call_frame;
mod client_connection;
mod connect;
mod cork;
mod endpoint;
mod keep_alive;
mod payload;
mod response_progress;
mod response_write;
mod server_call;
mod server_connection;
mod stream;

pub use address::{Address, InvalidLinkAddress};
pub use error::LinkError;
pub use health::health;
pub use limits::{PeerLimits, ServerLimits};
pub use peer::Peer;
pub use server::Server;
pub use tls::Tls;
