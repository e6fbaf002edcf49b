//! Runs guests: the wasmtime engine, instances, and the limits that confine every guest.
//!
//! A [`Group`] is the unit that runs: one component (often a composition of several), linked to the platform, with a
//! bounded pool of instances. A request gets an instance for itself, runs in it and returns it to the pool.
//!
//! The modules form layers. A file uses the layers below its own, never one above:
//!
//! | layer | what it owns |
//! | --- | --- |
//! | [`graph`] | the groups of a process, which call one another |
//! | [`group`] | the settings of a group; its linker; the host functions that stubs of seams call |
//! | `serve` | passing requests and calls to instances, and their responses back |
//! | `instance` | how instances are made, what they export, a live instance |
//! | [`code`] | compiled code on disk and in memory |
//! | [`engine`] | the wasmtime engine: its settings, its clock, its pool |
//! | `wasi` | the interfaces that the runtime itself provides to guests |
//! | [`guest`] | the host's state of one running instance |
//! | [`folders`] | file access of guests |
//! | `lanes` | the threads that guests run on: a fast lane, and a slow one for guests that compute for long |
//! | `failure` | why a request gets no response |
//! | [`pool`] | the engine's pool, and how much of it each account may have: accounts, shares, idle instances |
//!
//! In addition to them: [`command`] (one-off commands), [`machine`] (how many apps and instances the machine has room
//! for).
//!
//! This crate has no notion of an app, a manifest or a route, and contains no storage engine and no socket.
//!
//! Invariant: one request at a time uses a wasmtime store unless the group's `concurrency` is over 1, and a wasmtime
//! store whose run did not end cleanly (trap, deadline, disconnected client) is dropped, never reused.

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
pub use group::{Group, GroupSettings, HttpHandlerExport, SeamCallee, SeamStub, SeamTarget};
pub use guest::signals::{has_no_content, is_event_stream};
pub use guest::{Denials, GroupFunction, Guest, output};
pub use instance::Skeleton;
pub use isomer_telemetry::RequestId;
pub use lanes::prefer_latency;
pub use pool::{Account, AccountLimits, AccountUse, HostMemory, OutOfMemory, RoomLimit};
pub use serve::{GuestRequest, ResponseBody};
pub use wasi::{DeterministicClockAndRandom, Import, InterfaceOwner, Provider, config};
pub use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};
