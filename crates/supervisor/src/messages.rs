//! The messages between supervisor and member: one JSON object per line.
//!
//! The first line to a member is its task: the description of what the member runs. This crate forwards the task
//! without parsing it.

use serde::{Deserialize, Serialize};

use crate::trace_orders::NextTraces;

/// A message that the supervisor sends to a running member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SupervisorMessage {
    /// The member accepts no new requests, finishes the running requests, and then exits.
    Stop,
    /// The member traces the next requests to its front door.
    Trace(NextTraces),
}

/// A message from a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberMessage {
    /// The member serves requests.
    Ready,
    /// The member exits because of an error.
    Failed {
        /// The error, rendered for people.
        text: String,
        /// The exit code for this error.
        code: u8,
    },
}
