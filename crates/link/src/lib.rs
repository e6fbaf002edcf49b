//! Calls between groups that run in different processes: HTTP/2 over TCP with mutual TLS, or over Unix sockets.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`address`] | the addresses of groups |
//! | [`tls`] | mutual TLS: certificates, key, authority |
//! | [`limits`] | all limits of client and server |
//! | [`peer`] | the client: a group at one address or several, as a [`Callee`](isomer_wire::Callee) |
//! | `endpoint`, `client_connection` | one address of a group; one connection to the address |
//! | [`server`] | the server, which exports an `Arc<dyn Callee>` |
//! | `server_connection`, `server_call` | one connection of the server; one call |
//! | `response_write`, `response_progress` | writing a response; the permits that it holds until it is written |
//! | `cork` | buffering writes |
//! | [`mod@health`] | a health check |
//! | [`error`] | errors of setting up a client or a server, with hints |
//!
//! A call is one HTTP/2 stream: `POST /`, whose body is a frame of `isomer_wire` ([`isomer_wire::CallHead`] and the
//! *image*, which is the encoded arguments). The response is `200` with a frame ([`isomer_wire::ReplyHead`] and the
//! image, which is the encoded result). The metadata of a call is in the binary head of the body, not in HTTP's head:
//! HPACK does not compress values that change with each call. So a call's HTTP head is three bytes, which are indices
//! into HPACK's static table. `GET /` is the health check.
//!
//! The HTTP/2 implementation is h2, used directly and not through hyper. hyper puts two tasks, two channels and its
//! body types around each call, which cost more than the call. Without hyper, the task that reads a call also writes
//! the reply if the callee returns without waiting. One system call writes all output of a poll (`cork.rs`). The reason
//! why a stream ended is known exactly, and decides whether a call may have run.
//!
//! Frames are not read by a codec of `tokio-util`: an HTTP/2 stream carries one frame and ends with it, so there is
//! nothing to delimit. The reader copies each piece once, into a buffer of the announced size. A codec would first
//! collect the pieces in a growing buffer.
//!
//! **At most once.** A failure states whether the callee certainly did not run (`not_run`). Only calls that did not run
//! and idempotent calls are tried again, within limits and the deadline. This guarantee does not protect against
//! replayed bytes: an attacker who replays a whole connection repeats its calls. TLS prevents this between machines,
//! and links without TLS are accepted only inside one machine.
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
