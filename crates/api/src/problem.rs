//! Why something was refused: `application/problem+json` (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quotas::Quota;

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{title}")]
pub struct ApiProblem {
    /// What kind it is.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// What is wrong, in one line: lower case, names in backticks.
    pub title: String,
    /// More about it, line by line: causes, diagnostics of the manifest as a person reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Ways out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The quota that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// Kinds of problems, each with its status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// 400: the request is not one of this API.
    BadRequest,
    /// 401: there is no token, or none that this node knows.
    Unauthorized,
    /// 403: the token does not permit it, a browser asks, or the request is meant for another host.
    Forbidden,
    /// 404: there is no such tenant, app, revision, secret or token.
    NotFound,
    /// 409: a host name is taken, a tenant has apps, parts are missing, another deployment of the app runs.
    Conflict,
    /// 413: larger than allowed.
    TooLarge,
    /// 422: the revision cannot run: manifest, plan, types, compiler, first instance, health.
    Refused,
    /// 429: a quota of the tenant is reached, or what its tokens may ask of this API.
    Quota,
    /// 500: the node failed: disk, memory.
    Failed,
    /// 503: the node stops, or has too much to do.
    Unavailable,
}

impl ProblemKind {
    /// The status code of HTTP.
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
    /// A problem of this kind.
    #[must_use]
    pub fn new(kind: ProblemKind, title: impl Into<String>) -> Self {
        Self { kind, title: title.into(), detail: None, hints: Vec::new(), quota: None }
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {what} `{name}`"))
    }

    /// A quota of a tenant is reached.
    #[must_use]
    pub fn quota(quota: Quota, title: impl Into<String>) -> Self {
        Self { quota: Some(quota), ..Self::new(ProblemKind::Quota, title) }
    }
}
