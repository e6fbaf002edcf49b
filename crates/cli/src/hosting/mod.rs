//! What `isomer node` needs from its process and machine: settings from flags and files, inherited sockets, SIGHUP.

pub(crate) mod hangups;
pub(crate) mod inherited;
pub(crate) mod settings;
