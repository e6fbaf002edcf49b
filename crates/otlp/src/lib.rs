//! Exports telemetry to a collector: OTLP over HTTP, with protobuf.
//!
//! Traces and logs each have a bounded queue and a task that sends batches. Code that handles a request only adds to
//! the queue, and never waits: if the queue is full, for example because the collector does not respond, records are
//! dropped and counted by reason ([`DropReason`]). Metrics are sent at intervals, from the registry of the process.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`settings`] | which signals are exported, and to which collectors: the standard variables, and the node file |
//! | [`Otlp`] | the exporters of a process |
//! | `traces`, `logs`, `metrics` | converting spans, events and snapshots of metrics to messages |
//! | `resource` | which app and process emitted the telemetry |
//! | `queue` | the bounded queue of a signal |
//! | `delivery` | batches, attempts, HTTP and TLS |
//! | `message` | the messages of OTLP |
//!
//! | rejected | why |
//! | --- | --- |
//! | `opentelemetry_sdk` and `opentelemetry-otlp` | their processors and exporters have global state, no limit in bytes and no share for each tenant; on the request's thread, they would copy spans into types that allocate the keys of all attributes again |
//! | `opentelemetry-proto` for the messages | it depends on `opentelemetry_sdk` unconditionally. The tests use it to decode requests, so the messages here are checked against the generated ones |
//! | gRPC | each collector also accepts HTTP, which needs no further library |
#![forbid(unsafe_code)]

mod delivery;
mod logs;
mod message;
mod metrics;
mod otlp;
mod queue;
mod resource;
pub mod settings;
mod signal;
mod statistics;
mod traces;

pub use delivery::TlsError;
pub use metrics::ServedApps;
pub use otlp::{Otlp, SHUTDOWN_TIME_MAX};
pub use resource::ServiceIdentity;
pub use settings::OtlpSettings;
pub use signal::Signal;
pub use statistics::{DropReason, SignalStatistics};
