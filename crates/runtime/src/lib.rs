//! Runs guests: wasmtime, instances, and the limits that every guest is confined by.
//!
//! A [`Group`] is the unit that runs: one component (often a composition of several), linked to the platform, with a bounded
//! pool of instances. A request gets an instance for itself, runs in it and gives it back.
//!
//! The modules form floors. A file uses those below it, never one above:
//!
//! | floor | what it owns |
//! | --- | --- |
//! | [`graph`] | the groups of a process, which call one another |
//! | [`group`] | what a group is made of; the linker of a group; the host functions that stubs of seams call |
//! | `serve` | requests and calls on their way into instances, and their responses on the way back |
//! | `instance` | how instances are made, what they export, a live one |
//! | [`code`] | compiled code on disk and in memory |
//! | [`engine`] | the wasmtime engine: its settings, its clock, its pool |
//! | `wasi` | the interfaces that the runtime itself gives to guests |
//! | [`guest`] | what the host knows about one instance while it runs |
//! | `folders` | what guests do with files |
//! | `lanes` | on which threads guests run: a fast lane, and a slow one for those that compute for long |
//! | `failure` | why a request got no response |
//! | [`pool`] | the engine's pool, and who may have how much of it: accounts, shares, idle instances |
//!
//! Next to them: [`command`] (one-off commands), [`machine`] (how many apps and instances the machine has room for).
//!
//! This crate does not know what an app, a manifest or a route is, and no storage engine or socket.
//!
//! Invariant: a store is used by one request at a time unless the group says otherwise, and a store whose run did not end
//! cleanly (trap, deadline, client gone) is dropped, never reused.

mod clock;
pub mod code;
pub mod command;
pub mod engine;
mod failure;
pub mod folders;
pub mod graph;
pub mod group;
pub mod guest;
mod instance;
mod lanes;
pub mod machine;
pub mod pool;
mod serve;
mod wasi;

pub use code::{Code, CodeCache};
pub use failure::Failure;
pub use graph::{Graph, GroupHandle};
pub use group::{Destination, Group, GroupSettings, Handler, Stub, Target};
pub use guest::signals::{has_no_content, is_event_stream};
pub use guest::{Denials, Entrance, Guest, output};
pub use instance::Skeleton;
pub use isomer_telemetry::RequestId;
pub use lanes::prefer_latency;
pub use pool::{Account, AccountLimits, AccountUse, HostMemory, OutOfMemory, RoomLimit};
pub use serve::{Request, ResponseBody};
pub use wasi::{GivenClockAndRandom, Import, Owner, Provider, config};
pub use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};
