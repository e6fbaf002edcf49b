//! `isomer dev`: serving an app while it is written.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `session` | the loop: a change, a build, a new revision that replaces the previous one ([`DevSession`]) |
//! | `watch` | noticing that files have changed |
//! | `draft_stores` | SQL stores whose migrations are not final yet |
//!
//! The files that went into the last build are watched. After a change the session waits briefly for further changes,
//! then builds the changed components. If the result differs from the current revision, a new revision is created,
//! which replaces the current one once it has started; requests in flight are finished by the old one. Errors are
//! printed, and the old revision continues to serve.

#![forbid(unsafe_code)]

mod draft_stores;
mod session;
mod sources;
mod watch;

pub use session::{DevSession, DevSettings};
