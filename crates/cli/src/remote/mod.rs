//! The code for all commands that send requests to a node or to a registry.
//!
//! | file | what it contains |
//! | --- | --- |
//! | [`node`] | the node's address and token, and the errors that it returns |
//! | [`registry`] | access to OCI registries |
//! | [`upload`] | uploads the parts that a node does not have |
//! | [`show`] | formats tables, times, sizes, and text from a node |

pub(crate) mod node;
pub(crate) mod registry;
pub(crate) mod show;
pub(crate) mod upload;
