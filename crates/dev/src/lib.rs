//! `isomer dev`: serving an app while it is being developed.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `session` | the loop: a change, a build, a new revision that replaces the previous one ([`DevSession`]) |
//! | `watch` | detecting changes of files |
//! | `draft_stores` | SQL stores whose migrations are not final yet |
//!
//! The session watches the files that the last build used. After a change, it waits briefly for further changes and
//! builds the changed components. If the result differs from the current revision, the session creates a new revision,
//! which replaces the current one after it has started. The old revision finishes its requests in flight. Errors are
//! printed, and the old revision continues to serve.

#![forbid(unsafe_code)]

mod draft_stores;
mod session;
mod sources;
mod watch;

pub use session::{DevSession, DevSettings};
