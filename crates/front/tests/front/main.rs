//! The connections of a front door, tested from outside: their clients, their maximum number, and how they are closed.
//!
//! There is no guest, because responses that the front door generates are enough for these tests.

mod client;
mod connection_limits;
mod draining;
mod proxies;
mod world;
