//! What the commands that observe an app share: which app they observe.

pub(crate) mod app;
