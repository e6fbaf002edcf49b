//! The probed code of groups: making it when requests are sampled, and how much of it is in memory.
//!
//! A composition does not report calls over fused seams, so a group with fused seams has a second, *probed* composition
//! (see `isomer_seam::compose_probed`). Sampled requests run it, and all other requests run the plain one. Probed code is
//! made at the first sampled request of a group, which still runs the plain code, as do all requests until the probed
//! code is ready. If it cannot be made or started, the reason is logged, and it is not made again for some time.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`maker`] | the trait of what makes probed code |
//! | [`local`] | making probed code in this process, for the only app of a process |
//! | `supplier` | making and linking probed code when a group requests it |
//! | `failures` | which groups' probed code could not be made, and when |
//! | `registry` | which groups have probed code, and how many |
//!
//! Invariant: probed code is linked with the imports of the plain code. So it gives no component access to more than the
//! plain code gives.

mod failures;
pub(crate) mod local;
pub mod maker;
mod registry;
mod supplier;

pub(crate) use supplier::{ProbeSupply, RevisionProbes};
