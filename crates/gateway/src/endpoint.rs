//! The paths of the gateway.

use http::Method;

/// The prefix of all paths of the gateway. In an app with a browser group, no component gets requests below it.
pub const PREFIX: &str = "/_isomer/";

/// The content type of calls. Forms and scripts of other origins cannot send it without a preflight request, which the
/// gateway refuses.
pub const CALL_TYPE: &str = "application/vnd.isomer.call";

/// The content type of requests with JSON. Scripts of other origins cannot send it without a preflight request.
pub const JSON_TYPE: &str = "application/json";

/// What a request to the gateway is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TabEndpoint<'a> {
    /// The service worker.
    Worker,
    /// A file of a browser group.
    File {
        /// The digest of the browser group.
        digest: &'a str,
        /// The name of the file.
        name: &'a str,
    },
    /// The properties of the session.
    Session,
    /// A call of a function.
    Call,
    /// Log lines of a tab.
    Logs,
    /// Cookies that only the server can set.
    Cookies,
}

/// The reason why a request has no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The path is unknown.
    Path,
    /// The path does not have this method.
    Method,
}

impl<'a> TabEndpoint<'a> {
    /// Returns the endpoint of a request whose path in normal form is `path`. Returns `None` if the path does not belong
    /// to the gateway.
    #[must_use]
    pub fn of(method: &Method, path: &'a str) -> Option<Result<Self, NoEndpoint>> {
        let rest = path.strip_prefix(PREFIX).or_else(|| (path == "/_isomer").then_some(""))?;
        let endpoint = match rest {
            "worker.js" => Self::Worker,
            "session" => Self::Session,
            "call" => Self::Call,
            "logs" => Self::Logs,
            "cookies" => Self::Cookies,
            _ => match rest.strip_prefix("web/").and_then(|file| file.split_once('/')) {
                Some((digest, name)) => Self::File { digest, name },
                None => return Some(Err(NoEndpoint::Path)),
            },
        };
        let is_right = match endpoint {
            Self::Worker | Self::File { .. } => matches!(*method, Method::GET | Method::HEAD),
            _ => method == Method::POST,
        };
        Some(if is_right { Ok(endpoint) } else { Err(NoEndpoint::Method) })
    }

    /// The patterns of all endpoints.
    pub const PATTERNS: [&'static str; 6] = [
        Self::Worker.pattern(),
        Self::File { digest: "", name: "" }.pattern(),
        Self::Session.pattern(),
        Self::Call.pattern(),
        Self::Logs.pattern(),
        Self::Cookies.pattern(),
    ];

    /// Returns the path without variable parts, for metrics and spans.
    #[must_use]
    pub const fn pattern(self) -> &'static str {
        match self {
            Self::Worker => "/_isomer/worker.js",
            Self::File { .. } => "/_isomer/web/...",
            Self::Session => "/_isomer/session",
            Self::Call => "/_isomer/call",
            Self::Logs => "/_isomer/logs",
            Self::Cookies => "/_isomer/cookies",
        }
    }

    /// Returns the content type that a request must have; `None` if it has no body.
    #[must_use]
    pub fn content_type(self) -> Option<&'static str> {
        match self {
            Self::Worker | Self::File { .. } => None,
            Self::Call => Some(CALL_TYPE),
            Self::Session | Self::Logs | Self::Cookies => Some(JSON_TYPE),
        }
    }

    /// Returns the number of tokens that a request takes from its rates.
    #[must_use]
    pub fn tokens(self) -> u32 {
        match self {
            Self::Worker | Self::File { .. } | Self::Call => 1,
            Self::Session | Self::Logs | Self::Cookies => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_method() {
        let of = |method: Method, path| TabEndpoint::of(&method, path);
        for (path, endpoint) in [
            ("/_isomer/worker.js", TabEndpoint::Worker),
            ("/_isomer/web/abc/sw.js", TabEndpoint::File { digest: "abc", name: "sw.js" }),
            ("/_isomer/web/abc/a/b", TabEndpoint::File { digest: "abc", name: "a/b" }),
        ] {
            assert_eq!(of(Method::GET, path), Some(Ok(endpoint)), "{path}");
            assert_eq!(of(Method::POST, path), Some(Err(NoEndpoint::Method)), "{path}");
        }
        for (path, endpoint) in [
            ("/_isomer/session", TabEndpoint::Session),
            ("/_isomer/call", TabEndpoint::Call),
            ("/_isomer/logs", TabEndpoint::Logs),
            ("/_isomer/cookies", TabEndpoint::Cookies),
        ] {
            assert_eq!(of(Method::POST, path), Some(Ok(endpoint)), "{path}");
            assert!(endpoint.content_type().is_some());
            for method in [Method::GET, Method::OPTIONS, Method::PUT] {
                assert_eq!(of(method, path), Some(Err(NoEndpoint::Method)), "{path}");
            }
        }
        for path in ["/_isomer", "/_isomer/", "/_isomer/other", "/_isomer/web/abc", "/_isomer/call/"] {
            assert_eq!(of(Method::POST, path), Some(Err(NoEndpoint::Path)), "{path}");
        }
        for path in ["/", "/_isomers", "/_ISOMER/call", "/a/_isomer/call"] {
            assert_eq!(of(Method::POST, path), None, "{path}");
        }
    }
}
