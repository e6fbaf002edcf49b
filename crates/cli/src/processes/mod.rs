//! A shape of several processes on one machine: this process supervises, a child of it runs each group of the shape.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `alone` | one group by itself, where the others are on other machines |
//! | `supervisor` | the process that was started: plans, starts the members, carries out what is decided |
//! | `reconcile` | what is to be done so that the members are as they should be; pure |
//! | `restarts` | when a member that died is started again, and when that is given up; pure |
//! | `child` | one member as seen from the supervisor: its process, its pipes |
//! | `home` | the private directory of sockets and components |
//! | `order` | what supervisor and member say to each other |
//! | `control` | the channel on which they say it |
//! | `member` | the process of one group, as a child |
//!
//! Invariants:
//! - **No member outlives its supervisor,** however that ends: a member's standard input is one end of a socket pair, and
//!   a thread of its own ends the process when the other end is closed.
//! - **Members serve the very same app,** also those that are started again after the sources have changed: the supervisor
//!   keeps the manifest's text and the components' bytes that it planned with.
//! - **The port outlives the process behind it:** the supervisor holds the listening socket and hands it on, so that
//!   connections wait while the front door's process is started again.
//! - **Members listen to their supervisor only.** A terminal's Ctrl-C and a service manager's SIGTERM reach all processes;
//!   if each followed, requests would be lost that stopping in order finishes.

pub(crate) mod alone;
mod child;
mod control;
pub(crate) mod home;
pub(crate) mod member;
mod order;
mod reconcile;
mod restarts;
pub(crate) mod supervisor;
