//! Serving an app while it is written: what is watched, what a change leads to, and stores whose migrations are not final yet.

pub(crate) mod drafts;
pub(crate) mod session;
pub(crate) mod watch;
