//! Deploying: from a release that was uploaded to a revision that serves, so that at every moment one whole revision serves.
//!
//! The steps and what they promise are listed in [`crate::steps`].
//!
//! | file | what it owns |
//! | --- | --- |
//! | `rollout` | carrying out a deployment, a rollback or a swap |
//! | `checks` | what is checked before that |
//! | `charge` | what a tenant is charged with for a revision |
//! | `candidate` | a revision that is checked before it takes over |
//! | `health` | whether a started revision answers its health path |
//! | `takeover` | taking over together with the app's stores |
//! | `cleanup` | removing what was laid out for a revision that is refused |

mod candidate;
mod charge;
mod checks;
mod cleanup;
mod health;
mod rollout;
pub(crate) mod takeover;
