//! The messages of OTLP (opentelemetry-proto 1.9) that the exporter writes and reads, with their field numbers.
//!
//! Only the fields that are used are declared, because absent fields and default values have the same encoding. The
//! tests decode the messages with the generated code of `opentelemetry-proto`. That crate is not used here, because it
//! always depends on OpenTelemetry's SDK.

mod common;
mod logs;
pub(crate) mod metrics;
mod response;
mod trace;

pub(crate) use common::{AnyValue, InstrumentationScope, KeyValue, Resource, any_value};
pub(crate) use logs::{ExportLogsRequest, LogRecord, ResourceLogs, ScopeLogs};
pub(crate) use response::{ExportResponse, RpcStatus};
pub(crate) use trace::{ExportTraceRequest, Link, ResourceSpans, ScopeSpans, Span, Status, status_code};
