//! Requests to a node: the code that all commands for nodes share.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`node`] | the node's address and token, and the errors that it returns |
//! | [`release`] | an app on this machine as a release |
//! | [`upload`] | uploading the parts that a node does not have |
//! | [`show`] | tables, times, sizes, and text from outside |

pub(crate) mod node;
pub(crate) mod release;
pub(crate) mod show;
pub(crate) mod upload;
