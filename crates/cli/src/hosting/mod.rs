//! What `isomer node` is made of, beside what the node itself is.

pub(crate) mod hangups;
pub(crate) mod inherited;
pub(crate) mod settings;
