//! `isomer dev`: serving an app while it is written.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `session` | the loop: a change, a build, a revision that takes over ([`DevSession`]) |
//! | `watch` | seeing that files have changed |
//! | `draft_stores` | SQL stores whose migrations are not final yet |
//!
//! What is watched is what went into the last build. After a change the session waits briefly for more of them, then builds what has
//! changed. If the result differs from what serves, a new revision is made, which takes over once it has started; requests in flight end with
//! the old one. Errors are printed, and the old revision continues to serve.

#![forbid(unsafe_code)]

mod draft_stores;
mod session;
mod sources;
mod watch;

pub use session::{DevSession, DevSettings};
