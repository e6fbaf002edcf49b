//! The engine's pool of instances, and the part of it that each account may use.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `bounds` | the maximum resources that one instance can take |
//! | `slots`, `footprint`, `nesting` | the resources that an instance of a component takes, computed from the component's bytes |
//! | `sizes` | the size of the pool in each dimension |
//! | `shares` | the part of the pool that each account may use |
//! | `idle` | the lists of instance pools whose idle instances can be evicted, and the order of eviction |
//! | [`account`] | the memory and the processor time of one tenant's guests |
//! | `room` | the room that is in use, the requests that wait for room, and the thread that evicts idle instances |

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
