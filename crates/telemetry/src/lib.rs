//! What every crate of the platform may emit about itself and about the apps that it serves: events, log messages and the identities
//! that connect them.
//!
//! This crate lies below the engine (`runtime`) and the transport (`link`), so that both sides of a call can report it. It holds plain
//! types and traits only: no file, no thread, no output format. `isomer-observe` receives what is emitted, formats it and stores it.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`trace`] | W3C Trace Context: trace and span ids, flags, the `traceparent` header |
//! | [`RequestId`] | the identity of a request in the logs of this platform |
//! | [`Event`], [`EventSink`] | what happens while apps are served, and the trait that receives it |
//! | [`AccessRecord`] | a served request |
//! | [`Level`], [`Levels`] | the importance of log messages, and the filter that is set by operators |
//!
//! Spans and metrics belong here, too: as further kinds of [`Event`], so that one sink receives everything that happens to a request,
//! and every emitter has the same cheap check whether anything listens ([`EventSink::is_enabled`]).
//!
//! Log messages of the platform are `tracing` events. The macros are re-exported ([`error!`], [`warn!`], [`info!`], [`debug!`],
//! [`trace!`](trace!)): a message that the filter excludes costs one relaxed load and a comparison.
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
