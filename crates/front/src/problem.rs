//! Errors that the front door answers itself, as problem details (RFC 9457), and the one place where a failure gets its status code.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use isomer_runtime::{Failure, RequestId};
use isomer_wire::CallError;
use serde_json::json;

/// When a client that was refused for load should come back, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// An error on its way to a client. The detail is for the client: it says nothing of the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: &'static str,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail }
    }

    /// What a client is told of a failure.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Handler { body_too_large: true, .. } => BODY_TOO_LARGE,
            Failure::Deadline { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, TOO_LATE),
            Failure::Overloaded { .. } | Failure::Full { .. } => OVERLOADED,
            Failure::Quota { .. } => QUOTA,
            // A trap of the callee is one of the caller, but for where the call itself was lost, here or further down.
            Failure::Call { failure, .. } => match failure.lost() {
                None => Self::new(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
                Some(CallError::Unreachable | CallError::Refused) => {
                    Self::new(StatusCode::BAD_GATEWAY, "a part of the application could not be reached")
                }
                Some(CallError::Overloaded) => OVERLOADED,
                Some(CallError::Deadline) => Self::new(StatusCode::GATEWAY_TIMEOUT, TOO_LATE),
            },
            Failure::Neighbour => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the instance that served this request was lost; it is safe to assume nothing about the request",
            ),
            Failure::BadRequest { .. } => Self::new(StatusCode::BAD_REQUEST, "the request is not valid HTTP"),
            Failure::Instantiate { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the application could not be started")
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
        }
    }

    /// The response. `id` is what the log has too.
    pub(crate) fn response(&self, id: RequestId) -> Response<Bytes> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": format!("urn:isomer:request:{id}"),
            "id": id.to_string(),
        });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
            }
            _ => {}
        }
        response
    }
}

/// The application's own fault.
const FAILED: &str = "the application failed";

/// Nothing came in time.
const TOO_LATE: &str = "the application did not answer within its deadline";

/// More than the process takes on.
pub(crate) const OVERLOADED: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again in a moment");

/// A tenant's guest ran into the tenant's quota.
const QUOTA: Problem =
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "the application has used up what it may use; try again in a moment");

/// A body past its limit.
pub(crate) const BODY_TOO_LARGE: Problem =
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than this application takes");

/// A body that does not come.
pub(crate) const BODY_TOO_SLOW: Problem =
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time");

/// No route.
pub(crate) const NOT_FOUND: Problem = Problem::new(StatusCode::NOT_FOUND, "nothing is served at this path");

/// CONNECT, TRACE.
pub(crate) const METHOD: Problem =
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not answered by any application");

/// `*` with another method than OPTIONS.
pub(crate) const ASTERISK: Problem =
    Problem::new(StatusCode::BAD_REQUEST, "only OPTIONS can ask about `*` (RFC 9112, section 3.2.4)");

/// No or several hosts.
pub(crate) const HOST: Problem = Problem::new(
    StatusCode::BAD_REQUEST,
    "the request needs exactly one valid Host header (or :authority), as RFC 9112, section 3.2 asks",
);
