//! Calls between groups that run in different processes: HTTP/2 over TCP with mutual TLS, or over Unix sockets.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`address`] | the addresses of groups |
//! | [`tls`] | mutual TLS: certificates, key, authority |
//! | [`limits`] | every limit of both sides, with its name |
//! | [`peer`] | the client: a group at one address or several, as a [`Callee`](isomer_wire::Callee) |
//! | `endpoint`, `client_connection` | one address of a group; one connection to it |
//! | [`server`] | the server, which exports an `Arc<dyn Callee>` |
//! | `server_connection`, `server_call` | one connection of the server; one call |
//! | `response_write`, `response_progress` | writing a response; the permits that it holds until it is written |
//! | `cork` | gathering writes |
//! | [`mod@health`] | a health check |
//! | [`error`] | errors of setting up a side, with hints |
//!
//! A call is one HTTP/2 stream: `POST /`, whose body is a frame of `isomer_wire` ([`isomer_wire::CallHead`] and the
//! *image*, the encoded arguments). The response is `200` with a frame ([`isomer_wire::ReplyHead`] and the image, here
//! the encoded result). All data of a call is in the binary head of the body and not in HTTP's head: values that change
//! with each call gain nothing from HPACK, and so a call's HTTP head is three bytes, all of them indices of the static
//! table. `GET /` is the health check.
//!
//! The engine is h2, the one inside hyper, used directly: hyper's client and server put two tasks, two channels and the
//! machinery of a body around each call, which cost more than the call. Without them, a reply that needs no waiting is
//! written by the task that read the call, all writes of one poll need one system call (`cork.rs`), and it is known
//! exactly why a stream ended, which decides whether a call may have run.
//!
//! Frames are not read by a codec of `tokio-util`: an HTTP/2 stream has one frame and ends with it, so there is nothing
//! to delimit, and the reader copies each piece once, into a buffer of the announced size, where a codec would collect
//! the pieces in a growing buffer first.
//!
//! **At most once.** A failure tells whether the callee certainly did not run (`not_run`). Only such calls and
//! idempotent calls are tried again, within limits and the deadline. This holds for each attempt, not for bytes: an
//! attacker who repeats a whole connection repeats its calls. Between machines TLS prevents that; without TLS, links
//! are accepted only inside one machine.
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
