//! Events and log messages that the platform's crates emit, and the ids that connect events and messages of one
//! request.
//!
//! This crate lies below the engine (`runtime`) and the transport (`link`), so that both sides of a call can report the
//! call. The crate contains only plain types and traits: no file, no thread, no output format. `isomer-observe`
//! receives events and messages, formats and stores them.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`mod@trace`] | W3C Trace Context: trace and span ids, flags, the `traceparent` header |
//! | [`RequestId`] | the identity of a request in the logs of this platform |
//! | [`Event`], [`EventSink`] | events while apps are served, and the trait that receives events |
//! | [`AccessRecord`] | a served request |
//! | [`Level`], [`Levels`] | the importance of log messages, and the filter that operators set |
//!
//! When spans and metrics are added, they become further kinds of [`Event`]. One sink then receives everything that
//! happens to a request, and every emitter has the same cheap check whether a sink uses events
//! ([`EventSink::is_enabled`]).
//!
//! Log messages of the platform are `tracing` events. The macros are re-exported ([`error!`], [`warn!`], [`info!`],
//! [`debug!`], [`trace!`](trace!)): a message that the filter excludes costs one relaxed load and a comparison.
#![forbid(unsafe_code)]

mod access;
mod event;
mod level;
mod levels;
mod random;
mod request_id;
pub mod trace;

pub use access::{AccessRecord, AppIdentity};
pub use event::{DiscardEvents, Event, EventSink, StandardStream};
pub use level::Level;
pub use levels::{InvalidLevels, Levels, PARTS, PLATFORM_TARGET};
pub use request_id::RequestId;
pub use trace::{SpanId, TraceContext, TraceFlags, TraceId};
pub use tracing::{debug, error, info, trace, warn};
