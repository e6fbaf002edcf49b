//! The interfaces that the runtime itself provides to guests: WASI 0.2 and 0.3, with limits and charges that wasmtime's
//! implementation does not have.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `provider` | the imports of a group, and the trait through which capabilities implement imports |
//! | `linking` | linking WASI's interfaces: once for all components, or with the grants of one owner |
//! | `filesystem`, `filesystem_p2`, `filesystem_p3` | functions on files and folders |
//! | `http_heads` | the heads of requests and responses that a guest creates |
//! | `output_streams` | the functions that write to output streams |
//! | [`config`] | `wasi:config` |
//! | `logging` | `wasi:logging` for commands |
//! | `probe` | `isomer:probe`, through which probed compositions report calls over fused seams |
//! | `deterministic` | the clock and randomness of test mode |

pub mod config;
mod deterministic;
#[cfg(test)]
mod fake_guest;
mod filesystem;
mod filesystem_p2;
mod filesystem_p3;
pub(crate) mod http_heads;
mod linking;
pub(crate) mod logging;
mod output_streams;
mod probe;
mod provider;

pub use deterministic::DeterministicClockAndRandom;
pub(crate) use linking::{BaseLinker, is_owned, is_shared, link_owned};
pub use logging::GuestLogLevel;
pub(crate) use probe::INTERFACE as PROBE_INTERFACE;
pub use probe::{ProbedFunction, SeamProbes};
pub use provider::{Import, InterfaceOwner, Provider};
