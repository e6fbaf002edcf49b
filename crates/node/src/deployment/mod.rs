//! Deployments: from an uploaded release to a revision in service, so that at every moment one whole revision serves.
//!
//! The steps and what they promise are listed in [`crate::steps`].
//!
//! | file | what it owns |
//! | --- | --- |
//! | `rollout` | carrying out a deployment, a rollback or a swap |
//! | `checks` | checks before that |
//! | `charge` | what a tenant is charged for a revision |
//! | `candidate` | a revision that is checked before it takes over |
//! | `health` | the health check of a started revision |
//! | `takeover` | taking over together with the app's stores |
//! | `cleanup` | removing the files of a revision that is refused |

mod candidate;
mod charge;
mod checks;
mod cleanup;
mod health;
mod rollout;
pub(crate) mod takeover;
