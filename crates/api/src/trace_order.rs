//! The types of the admin API for trace orders. A trace order makes the node trace the next requests of an app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum number of requests that one trace order can select.
pub const ORDERED_REQUESTS_MAX: u32 = 1000;

/// The maximum length of [`TraceOrderRequest::path`] in bytes.
pub const ORDERED_PATH_BYTES_MAX: usize = 1024;

/// An order to trace the next requests in full, even if the sampling policy would not select them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceOrderRequest {
    /// Trace only requests for this path, or for paths below it. The empty text, which is the default, stands for all
    /// requests. At most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The number of requests to trace, from 1 to 1000.
    pub requests: u32,
}

impl TraceOrderRequest {
    /// Returns why the order is not valid, or `None` if it is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.requests == 0 || self.requests > ORDERED_REQUESTS_MAX {
            return Some(format!("`requests` must be from 1 to {ORDERED_REQUESTS_MAX}"));
        }
        let is_path = self.path.is_empty() || self.path.starts_with('/');
        if !is_path || self.path.len() > ORDERED_PATH_BYTES_MAX {
            return Some(format!("`path` must begin with `/` and have at most {ORDERED_PATH_BYTES_MAX} bytes"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_bounded() {
        let problem = |path: &str, requests| TraceOrderRequest { path: path.to_owned(), requests }.problem();
        assert!(problem("", 1).is_none() && problem("/cart", 1000).is_none());
        let long = format!("/{}", "a".repeat(ORDERED_PATH_BYTES_MAX));
        for (path, requests) in [("", 0), ("", 1001), ("cart", 1), (long.as_str(), 1)] {
            assert!(problem(path, requests).is_some(), "{path} {requests}");
        }
    }
}
