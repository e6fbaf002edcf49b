//! The engine's pool of instances, and how much of it each account may have.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `bounds` | the maximum that one instance can take |
//! | `slots`, `footprint`, `nesting` | what an instance of a component takes of the pool, counted from its bytes |
//! | `sizes` | how large the pool is, in each dimension |
//! | `shares` | how much of the pool each account may have |
//! | `idle` | the lists of pools whose idle instances can be evicted, and their order |
//! | [`account`] | the memory and the processor time of one tenant's guests |
//! | `room` | what is taken of the pool, the requests that wait for it, and the thread that evicts idle instances |

pub mod account;
pub(crate) mod bounds;
mod footprint;
pub(crate) mod idle;
mod nesting;
mod room;
mod shares;
mod sizes;
mod slots;

pub use account::{Account, AccountLimits, AccountUse, HostMemory, OutOfMemory};
pub use footprint::{Footprint, SlotsError};
pub use room::RoomLimit;
pub(crate) use room::{Room, RoomReservation};
pub use sizes::{Dimension, PoolSizes};
pub use slots::Slots;
