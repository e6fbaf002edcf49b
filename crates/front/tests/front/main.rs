//! The front door's connections, from outside: where they come from, how many there may be, and how they end.
//!
//! No guest is behind these doors: what they answer themselves is an answer, too.

mod client;
mod descriptors;
mod places;
mod proxies;
mod stopping;
mod world;
