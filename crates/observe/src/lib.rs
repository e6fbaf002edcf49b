//! What people and machines see of a running app: one stream of lines.
//!
//! Guests' output, the access log, failures with their call stacks and the platform's own messages become [`record`]s, are rendered
//! for people or as JSON, and leave through one bounded queue that a thread of its own empties. Nothing on a request's path waits for
//! a terminal or a pipe: when the queue is full, lines are counted instead, and the count is told.
//!
//! On a node of several tenants each app also has a log of its own, on disk ([`app`]).
//!
//! This crate knows what a request and a component are called, and nothing of how they are served.

pub mod app;
mod bridge;
mod levels;
mod log;
mod member;
pub mod record;

pub use app::{AppLog, AppLogError, AppLogLimits, AppLogs, Followed, LogQuota};
pub use bridge::listen_to_events;
pub use levels::{InvalidLevels, Levels, PARTS};
pub use log::{Format, Log};
pub use member::MemberLog;
