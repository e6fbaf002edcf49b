//! The connections of a front door, seen from outside: their clients, their maximum number, and how they are closed.
//!
//! There is no guest: a response of the front door itself is enough for these tests.

mod client;
mod connection_limits;
mod descriptors;
mod draining;
mod proxies;
mod world;
