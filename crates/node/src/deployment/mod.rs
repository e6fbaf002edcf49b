//! Deployments: bring an uploaded release into service. At any moment, exactly one complete revision of the app is in
//! service.
//!
//! The steps of a deployment, and their guarantees, are listed in [`crate::steps`].
//!
//! | file | what it owns |
//! | --- | --- |
//! | `rollout_requests` | the requests to deploy, roll back, swap components and change the shape |
//! | `rollout` | the steps that all of these requests have in common |
//! | `checks` | the checks of a release before it is compiled |
//! | `charge` | the disk space that is charged to a tenant for a revision |
//! | `candidate` | a new revision that is checked before it takes over |
//! | `health` | the health check of a candidate |
//! | `takeover` | the take-over of a revision that replaces stores |
//! | `trace` | the trace of a deployment |
//! | `outcome_note` | the line in the log about the outcome |
//! | `cleanup` | removing the files of a refused revision |

mod candidate;
mod charge;
mod checks;
mod cleanup;
mod health;
mod outcome_note;
mod rollout;
mod rollout_requests;
pub(crate) mod takeover;
mod trace;
