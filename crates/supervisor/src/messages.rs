//! The messages between supervisor and member: one JSON object per line.
//!
//! The first line to a member is its task: the description of what the member runs. This crate forwards the task
//! without parsing it.

use serde::{Deserialize, Serialize};

use crate::trace_orders::NextTraces;

/// A message that the supervisor sends to a running member. Each message replaces the previous ones, except that
/// [`SupervisorMessage::Trace`] only replaces messages of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SupervisorMessage {
    /// The member opens its stores and starts, but does not yet accept connections from clients.
    Start {
        /// Whether the members have not been ready before. The member then checks the app's health.
        first: bool,
    },
    /// The member accepts connections from clients as soon as it has started.
    Accept,
    /// The member accepts no new connections from clients, finishes the requests of the open ones, and keeps running.
    Pause {
        /// The number of the pause, which [`MemberMessage::Drained`] repeats.
        number: u64,
    },
    /// The member accepts no new requests, finishes the running requests, and then exits.
    Stop,
    /// The member traces the next requests to its front door, as these orders state.
    Trace(Vec<NextTraces>),
}

/// A message from a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberMessage {
    /// The member has everything that it needs to start, and waits for the message to start.
    Prepared,
    /// The member has started, and can serve requests.
    Ready,
    /// All connections from clients were closed during the pause with this number.
    Drained {
        /// The number of the pause.
        number: u64,
    },
    /// The member exits because of an error.
    Failed {
        /// The error, rendered for people.
        text: String,
        /// The exit code for this error.
        code: u8,
    },
}
