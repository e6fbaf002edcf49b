//! The connections of a front door, seen from outside: their clients, how many there may be, and how they end.
//!
//! There is no guest: a response of the front door itself is a response, too.

mod client;
mod connection_limits;
mod descriptors;
mod draining;
mod proxies;
mod world;
