//! The engine room: wasmtime, instances and the prison that every guest lives in.
//!
//! A [`Group`] is the unit that runs: one component (often a composition of several), linked to the platform, with a bounded
//! pool of instances. A request takes an instance, runs alone in it and gives it back. The path of a request, in order:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`graph`] | the groups of a process, which call one another |
//! | [`group`] | what a group is made of |
//! | `alone` | requests and calls that have an instance for themselves |
//! | `pool` | which instance serves a request, how many there may be, when one is thrown away |
//! | `serve` | one request in one instance: calling the handler, deadline, what the outcome means |
//! | `body` | the response's body, which drives the rest of the guest's work while it is read |
//! | `shared` | the other way to serve: one instance, several requests at once (`concurrency = N`) |
//!
//! What all groups of a process share, and how they keep out of each other's way:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`engine`] | settings, epochs, the pool, the base linker, the code that is mapped |
//! | `slots` | what an instance of a component takes of the pool |
//! | `nesting` | what it takes at least, without resolving it |
//! | `shares` | how much of the pool each account may have |
//! | `room` | who has what of the pool, who waits for it, the thread that evicts idle instances |
//! | `idle` | which idle instance goes first |
//! | [`account`] | the memory and the processor time of one tenant's guests |
//! | `meter` | measures processor time |
//! | `lanes` | on which threads guests run: a fast lane, and a slow one for those that compute for long |
//! | [`machine`] | how many apps and instances the machine has room for |
//!
//! A call that crosses a seam goes out of one store and into another:
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`wire`] | the host functions that stubs call, and where each call leads |
//! | `begun` | calls in flight, which run beside their caller's store |
//! | [`skeleton`] | one call in one instance |
//! | `scope` | what a request takes along the chain of its calls |
//!
//! and beside it: `credit` (what the host holds for an instance), `tasks` (what wasmtime holds for its tasks and streams), [`folders`] and
//! `open_files` (what guests do with files), [`exec`] (one-off commands), [`config`] (values by name), [`code`] (compiled code on disk), [`guest`] (a store's data), `limits`,
//! `heads` (what a guest may put into a request), [`denials`], [`foreign`] (texts of others, cut), [`output`] (stdout and stderr, line by line), [`link`] and `wasi` (imports),
//! `given` (the clock and randomness of tests).
//!
//! This crate does not know what an app, a manifest or a route is, and no storage engine or socket.
//!
//! Invariant: a store is used by one request at a time unless the group says otherwise, and a store whose run did not end
//! cleanly (trap, deadline, client gone) is dropped, never reused.

pub mod account;
mod alone;
mod begun;
mod body;
pub mod code;
pub mod config;
mod credit;
pub mod denials;
pub mod engine;
pub mod exec;
mod failure;
pub mod folders;
mod given;
pub mod graph;
pub mod group;
pub mod guest;
mod heads;
mod hooks;
mod idle;
mod lanes;
mod limits;
pub mod link;
pub mod machine;
mod meter;
mod nesting;
mod open_files;
pub mod output;
mod pool;
mod room;
mod scope;
mod seal;
mod serve;
mod shared;
mod shares;
mod sizes;
pub mod skeleton;
mod slots;
mod tasks;
mod wasi;
pub mod wire;

use isomer_display::excerpt as foreign;

pub use account::{Account, AccountLimits, AccountUse, HostMemory, OutOfMemory};
pub use body::{ResponseBody, has_no_content, is_event_stream};
pub use code::{Code, CodeCache};
pub use denials::Denials;
pub use failure::{Failure, RoomLimit};
pub use given::GivenClockAndRandom;
pub use graph::{Entrance, Graph, GroupHandle};
pub use group::{Group, GroupSettings, Handler, Request};
pub use guest::Guest;
pub use isomer_telemetry::RequestId;
pub use lanes::priority::prefer_latency;
pub use link::{Import, Owner, Provider};
pub use skeleton::Skeleton;
pub use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};
pub use wire::{Destination, Stub, Target};
