//! Errors of the admin API: `application/problem+json` (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quotas::Quota;

/// An error of the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{title}")]
pub struct ApiProblem {
    /// The kind of problem, which determines the status code.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// A one-line description of the error, in lower case and with names in backticks.
    pub title: String,
    /// More details, one per line: the causes of the error, or the diagnostics of the manifest as human-readable text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Hints on how to solve the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The quota that was reached; absent for other problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// The kinds of problems, each with its HTTP status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// 400: the request is not valid.
    BadRequest,
    /// 401: the token is missing or unknown.
    Unauthorized,
    /// 403: the token does not permit the operation, a browser sent the request, or the `Host` field of
    /// the request contains a host name that the admin API does not have.
    Forbidden,
    /// 404: the tenant, app, revision, secret or token does not exist.
    NotFound,
    /// 409: a host name is taken, a tenant still has apps, parts are missing, or another deployment of the app is
    /// running.
    Conflict,
    /// 413: the request is larger than allowed.
    TooLarge,
    /// 422: the revision cannot run. For example, its manifest is not valid, a component cannot be compiled, or the
    /// health check failed.
    Refused,
    /// 429: a quota of the tenant or a limit on the use of the admin API is reached.
    Quota,
    /// 500: the node failed, for example because of its disk or memory.
    Failed,
    /// 503: the node is shutting down or overloaded.
    Unavailable,
}

impl ProblemKind {
    /// Returns the HTTP status code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Refused => 422,
            Self::Quota => 429,
            Self::Failed => 500,
            Self::Unavailable => 503,
        }
    }
}

impl ApiProblem {
    /// Creates a problem without details and hints. `title` describes the error in one line.
    #[must_use]
    pub fn new(kind: ProblemKind, title: impl Into<String>) -> Self {
        Self { kind, title: title.into(), detail: None, hints: Vec::new(), quota: None }
    }

    /// Adds a hint on how to solve the problem.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets the details.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Creates a [`ProblemKind::NotFound`] problem. `what` is the kind of thing that does not exist, and `name` its
    /// name.
    #[must_use]
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {what} `{name}`"))
    }

    /// Creates a [`ProblemKind::Quota`] problem: the tenant has reached `quota`.
    #[must_use]
    pub fn quota(quota: Quota, title: impl Into<String>) -> Self {
        Self { quota: Some(quota), ..Self::new(ProblemKind::Quota, title) }
    }
}
