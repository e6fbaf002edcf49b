//! Requests to a node: what the commands for nodes have in common.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`node`] | the node's address and token, and the errors that it returns |
//! | [`release`] | an app on this machine as a release |
//! | [`upload`] | sending the parts that a node lacks |
//! | [`show`] | tables, times, sizes, and text from outside |

pub(crate) mod node;
pub(crate) mod release;
pub(crate) mod show;
pub(crate) mod upload;
