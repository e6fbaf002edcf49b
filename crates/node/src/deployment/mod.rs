//! Deployments: from an uploaded release to a revision in service. At every moment, one whole revision serves.
//!
//! The steps and their guarantees are listed in [`crate::steps`].
//!
//! | file | what it owns |
//! | --- | --- |
//! | `rollout` | carrying out a deployment, a rollback or a swap |
//! | `checks` | checks of a release before the rollout |
//! | `charge` | the charge of a tenant for a revision |
//! | `candidate` | a revision that is checked before it takes over |
//! | `health` | the health check of a started revision |
//! | `takeover` | taking over together with the app's stores |
//! | `cleanup` | removing the files of a refused revision |

mod candidate;
mod charge;
mod checks;
mod cleanup;
mod health;
mod rollout;
pub(crate) mod takeover;
