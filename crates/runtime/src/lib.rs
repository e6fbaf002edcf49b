//! Runs guests: the wasmtime engine, instances, and the limits that confine every guest.
//!
//! A [`Group`] is the unit that runs: one component (often a composition of several), linked with host functions, with
//! a bounded pool of instances. A request takes an instance from the pool, runs in it, and returns it to the pool.
//!
//! The modules form layers. A file uses only the layers below its own:
//!
//! | layer | what it owns |
//! | --- | --- |
//! | [`graph`] | the groups of a process, which call one another |
//! | [`group`] | the settings of a group; its linker; the host functions that stubs of seams call |
//! | `serve` | passing requests and calls to instances, and returning their responses |
//! | `instance` | how instances are created, what they export, and how a live instance is used |
//! | [`code`] | compiled code on disk and in memory |
//! | [`engine`] | the wasmtime engine: its settings, its epoch clock, its pool |
//! | `wasi` | the interfaces that the runtime itself provides to guests |
//! | [`guest`] | the host's state of one running instance |
//! | [`folders`] | file access of guests |
//! | `lanes` | the threads that run guests: a fast lane, and a slow lane for guests that compute for a long time |
//! | `failure` | the reasons why a guest gives no response |
//! | `seam`, `spans` | the functions that are called across seams; spans of calls and of waiting for instances |
//! | [`pool`] | the engine's pool, and the part of it that each account may use: accounts, shares, idle instances |
//!
//! The crate also contains [`command`] (one-off commands) and [`machine`] (the numbers of apps and instances that the
//! machine has room for).
//!
//! This crate has no notion of an app, a manifest or a route, and contains no storage engine and no socket.
//!
//! Invariant: one request at a time uses a wasmtime store unless the group's `concurrency` is over 1. A wasmtime store
//! whose execution did not end cleanly (trap, deadline, disconnected client) is dropped, never reused.

mod clock;
pub mod code;
#[cfg(feature = "compiler")]
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
mod seam;
mod serve;
mod spans;
mod wasi;

pub use code::{Code, CodeCache, CodeSource};
pub use failure::Failure;
pub use graph::{Graph, GroupHandle, ProbedCodeSupplier};
pub use group::{
    Group, GroupSettings, HttpHandlerExport, LinkedProbedCode, ProbedCode, SeamCallee, SeamStub, SeamTarget,
};
pub use guest::signals::{has_no_content, is_event_stream};
pub use guest::{Denials, GroupFunction, Guest, current_request, current_span, output};
pub use instance::{ExportedFunction, Skeleton};
pub use isomer_telemetry::RequestId;
pub use lanes::{lower_priority, prefer_latency};
pub use pool::{Account, AccountLimits, AccountUse, HostMemory, OutOfMemory, RoomLimit};
pub use seam::SeamFunction;
pub use serve::{GuestRequest, InstanceCounts, ResponseBody};
pub use wasi::{
    DeterministicClockAndRandom, GuestLogLevel, Import, InterfaceOwner, ProbedFunction, Provider, SeamProbes, config,
};
pub use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};
