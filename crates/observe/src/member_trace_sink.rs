//! The sink through which a member sends its traces to its supervisor.

use isomer_telemetry::{TraceFragment, TraceSink};

use crate::log::Log;

/// Sends a member's traces to the supervisor. Never blocks: if too many traces are waiting, a trace is dropped and
/// counted.
#[derive(Clone)]
pub struct MemberTraces(Log);

impl Log {
    /// Returns a sink that writes each trace as a line of its own to the output of this log. This log must be the log
    /// of a member.
    #[must_use]
    pub fn member_traces(&self) -> MemberTraces {
        MemberTraces(self.clone())
    }
}

impl TraceSink for MemberTraces {
    fn record(&self, fragment: TraceFragment) {
        self.0.push_trace(fragment);
    }
}
