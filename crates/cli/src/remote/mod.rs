//! Talking to a node: what the commands for nodes have in common.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`node`] | which node is meant, its token, what it says when it says no |
//! | [`release`] | an app of this machine as a release |
//! | [`upload`] | sending the parts that a node lacks |
//! | [`show`] | tables, times, sizes, other people's text |

pub(crate) mod node;
pub(crate) mod release;
pub(crate) mod show;
pub(crate) mod upload;
