//! A process that starts, watches and stops other processes of the same program: its *members*.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `supervisor` | the event loop: carries out the actions that `reconcile` decides on ([`members`]) |
//! | `reconcile` | the next actions that bring all members to their goal; pure |
//! | `restarts` | when a member that ended is started again, and when the supervisor gives up; pure |
//! | `process` | one member as seen from the supervisor: its process and its pipes |
//! | `messages` | the messages between supervisor and members |
//! | `control` | the channel that carries these messages, and the member's end of the channel ([`ControlChannel`]) |
//! | `private_dir` | the folder of sockets and of files that all members read ([`PrivateDir`]) |
//!
//! Invariants:
//! - **No member outlives its supervisor,** however the supervisor ends: a member's standard input is one end of a socket pair, and
//!   a dedicated thread of the member exits the process when the other end is closed.
//! - **The port outlives the process that serves it:** the supervisor holds the listening socket and passes it to each process that
//!   it starts for the front door, so connections wait while that process restarts.
//! - **Members ignore stop signals.** A terminal's Ctrl-C and a service manager's SIGTERM reach all processes. If members stopped
//!   on these signals, they would lose requests that a graceful shutdown finishes. Only the supervisor's message stops a
//!   member.
//!
//! This crate does not know what a member does. The task of a member, which describes what the member runs, is any
//! serializable value.

#![forbid(unsafe_code)]

mod control;
mod messages;
mod private_dir;
mod process;
mod reconcile;
mod restarts;
mod supervisor;
mod trace_orders;

pub use control::{ControlChannel, MemberOrders};
pub use messages::MemberMessage;
pub use private_dir::{PrivateDir, PrivateDirError, SOCKET_PATH_BYTES_MAX, socket_folders};
pub use process::ProcessEnd;
pub use reconcile::Goal;
pub use supervisor::{MemberFailure, MemberSpec, MembersHandle, MembersState, ReadyMember, SupervisorOutcome, members};
pub use trace_orders::{NextTraces, TraceOrders};
