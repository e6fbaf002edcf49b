//! Parts of `isomer node` that belong to the process rather than to the node: settings, inherited sockets, SIGHUP.

pub(crate) mod hangups;
pub(crate) mod inherited;
pub(crate) mod settings;
