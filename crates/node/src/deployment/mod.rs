//! Deploying: from a release that was uploaded to a revision that serves, so that at every moment one whole revision serves.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`steps`] | the steps of a deployment, and what they promise |
//! | [`deployment`] | carrying them out |
//! | `checks` | what is checked before that |
//! | `attempts` | removing what was laid out for a revision that is refused |
//! | `charge` | what a tenant is charged with for a revision |
//! | `changes` | what differs from what served before |
//! | `trial` | a revision that is tried out before anything of it counts |
//! | `health` | whether a revision works that was started |
//! | `takeover` | taking over together with the app's stores |
//! | [`snapshots`] | stores as they were before that |
//! | [`compilers`] | children that compile what was uploaded, from the node's side |
//! | `talk` | what is said between both, from the node's side |
//! | `child` | such a child |
//! | [`sandbox`] | what it may still do |
//! | [`order`] | what both say to each other |
//! | `flights` | one compile of a release at a time |
//! | `release` | a release: its name, its checks, its files on disk |
//! | `fresh` | folders with names that nothing had before |
//! | `kept` | what the state keeps of a revision |
//! | [`sweep`] | removing what nothing refers to |

pub(crate) mod attempts;
mod changes;
mod charge;
mod checks;
pub(crate) mod child;
pub mod compilers;
pub mod deployment;
pub(crate) mod flights;
mod fresh;
mod health;
pub(crate) mod kept;
pub mod order;
pub(crate) mod release;
pub mod sandbox;
pub mod snapshots;
pub mod steps;
pub mod sweep;
pub(crate) mod takeover;
mod talk;
mod trial;

pub use child::compile_child;
pub use compilers::{CompileError, CompilerOptions, Compilers, Program};
pub use order::{ChildLimits, Doing, Made, Order};
pub use steps::Step;
