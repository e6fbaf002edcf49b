//! The dashboard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A one-time code that opens the dashboard. A browser uses it by requesting `http://ADDRESS/?code=CODE`. The session
/// of the browser has the rights of the token with which the code was created.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DashboardCode {
    /// The code.
    pub code: String,
    /// The number of seconds after which the code expires if it is not used.
    pub expires_in_s: u64,
}

impl std::fmt::Debug for DashboardCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardCode").field("expires_in_s", &self.expires_in_s).finish_non_exhaustive()
    }
}
