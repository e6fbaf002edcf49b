//! The parts of `isomer node` that depend on its process: settings from flags and files, inherited sockets, SIGHUP.

pub(crate) mod hangups;
pub(crate) mod inherited;
pub(crate) mod settings;
