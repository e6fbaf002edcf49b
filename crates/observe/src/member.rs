//! The name of a member: one of several processes that write to the same log.

use std::sync::Arc;

/// A member's name, and the width to which the names of all members are padded.
#[derive(Debug, Clone)]
pub(crate) struct MemberName {
    pub(crate) name: Arc<str>,
    pub(crate) width: usize,
}

impl MemberName {
    pub(crate) fn padded(&self) -> String {
        format!("{:<width$}", self.name, width = self.width)
    }
}
