//! The log of a process: receives what the platform emits ([`isomer_telemetry`]), formats it and stores it.
//!
//! Guests' output and records, served requests, failures with their call stacks and the platform's own messages become records.
//! Records are formatted as text for people or as JSON, wait in one bounded queue, and are written by one thread. The
//! code that handles a request never waits for a terminal or a pipe: when the queue is full, records are dropped, and
//! the number of dropped records is logged.
//!
//! On a node that serves several tenants, each app also has its own log on disk ([`app_log`]).

mod app_copy;
pub mod app_log;
mod events;
mod json;
mod json_lines;
mod log;
mod member;
mod member_log;
mod member_metrics;
mod member_metrics_sender;
mod member_trace_sink;
mod member_traces;
mod queue;
mod record;
#[cfg(test)]
mod test_output;
mod text;

pub use app_log::{AppLog, AppLogError, AppLogLimits, AppLogs, Followed, LogQuota};
pub use events::listen_to_events;
pub use log::{Format, Log};
pub use member_log::MemberLog;
pub use member_metrics::{MemberMetrics, MembersMetrics};
pub use member_metrics_sender::MemberMetricsSender;
pub use member_trace_sink::MemberTraces;
