//! Code that the commands `traces`, `trace`, `logs`, `metrics` and `top` share: finding the app to observe, and showing
//! its traces and traffic in a terminal.

pub(crate) mod app;
pub(crate) mod durations;
pub(crate) mod live_screen;
pub(crate) mod screen;
pub(crate) mod trace_rows;
pub(crate) mod traffic;
pub(crate) mod waterfall;
