//! Errors that the front door answers itself, as problem details (RFC 9457), and the one place where a failure gets its status code.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use isomer_api::Quota;
use isomer_runtime::Failure;
use isomer_telemetry::RequestId;
use isomer_wire::CallError;
use serde_json::json;

use crate::door::Refusal;

/// More fields than `limits.headers` allows. Over HTTP/1.1 hyper says so itself.
pub(crate) const FIELDS: Problem =
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has more header fields than are allowed");

/// When a client that was refused for load should come back.
const RETRY_AFTER_LOAD: Duration = Duration::from_secs(1);

/// An error on its way to a client. The detail is for the client: it says nothing of the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: &'static str,
    /// The tenant's quota that was reached.
    quota: Option<Quota>,
    /// When the client may come again.
    retry_after: Option<Duration>,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail, quota: None, retry_after: None }
    }

    const fn again_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    const fn quota(quota: Quota, detail: &'static str, retry_after: Duration) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self { status, detail, quota: Some(quota), retry_after: Some(retry_after) }
    }

    /// What a client is told that was not let in.
    pub(crate) fn from_refusal(refusal: &Refusal) -> Self {
        match *refusal {
            Refusal::NoHost => Self::new(StatusCode::NOT_FOUND, "no application is served under this host name"),
            Refusal::NotBuilt => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this application is still being built: try again, or look at the terminal that builds it",
            )
            .again_after(RETRY_AFTER_LOAD),
            Refusal::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "this application is stopped"),
            Refusal::Rate { retry_after } => {
                Self::quota(Quota::RequestRate, "requests come faster than this tenant's quota allows", retry_after)
            }
            Refusal::Concurrency => Self::quota(
                Quota::ConcurrentRequests,
                "as many requests are being served as this tenant's quota allows",
                RETRY_AFTER_LOAD,
            ),
            Refusal::Cpu { retry_after } => {
                Self::quota(Quota::Cpu, "this tenant has used the processor time that its quota allows", retry_after)
            }
            Refusal::Loading => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many applications are being started; try again in a moment",
            )
            .again_after(RETRY_AFTER_LOAD),
            Refusal::Broken => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the application could not be started"),
        }
    }

    /// What a client is told of a failure.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Handler { body_too_large: true, .. } => BODY_TOO_LARGE,
            Failure::Deadline { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, TOO_LATE),
            Failure::Overloaded { .. } | Failure::Full { .. } => OVERLOADED,
            Failure::Quota { quota, .. } => Self::quota(
                *quota,
                "the application has used up what its tenant's quota allows; try again in a moment",
                RETRY_AFTER_LOAD,
            ),
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
            )
            .again_after(RETRY_AFTER_LOAD),
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
        let mut body = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": format!("urn:isomer:request:{id}"),
            "id": id.to_string(),
        });
        if let Some(quota) = self.quota {
            body["quota"] = quota.name().into();
        }
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // Whole seconds (RFC 9110, section 10.2.3); who comes too early is refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
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
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again in a moment")
        .again_after(RETRY_AFTER_LOAD);

/// An app that does not come from disk in time.
pub(crate) const NOT_LOADED: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the application did not start in time; try again in a moment")
        .again_after(RETRY_AFTER_LOAD);

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

/// A coding of the request's body that the front door does not undo (RFC 9112, section 6.1).
pub(crate) const CODING: Problem = Problem::new(
    StatusCode::NOT_IMPLEMENTED,
    "the request's transfer coding is not known here; the only one is `chunked`, once",
);

/// `https` over a connection that is not secured (RFC 9110, section 7.4).
pub(crate) const INSECURE: Problem = Problem::new(
    StatusCode::MISDIRECTED_REQUEST,
    "the request is for an https URI, and this connection is not secured; ask for it over TLS",
);

/// Neither `http` nor `https`.
pub(crate) const SCHEME: Problem = Problem::new(StatusCode::BAD_REQUEST, "only http and https URIs are answered here");

/// `*` with another method than OPTIONS.
pub(crate) const ASTERISK: Problem =
    Problem::new(StatusCode::BAD_REQUEST, "only OPTIONS can ask about `*` (RFC 9112, section 3.2.4)");

/// No or several hosts.
pub(crate) const HOST: Problem = Problem::new(
    StatusCode::BAD_REQUEST,
    "the request needs exactly one valid Host header (or :authority), as RFC 9112, section 3.2 asks",
);

/// Another host than the connection's certificate is for (RFC 9110, section 15.5.20).
pub(crate) const MISDIRECTED: Problem = Problem::new(
    StatusCode::MISDIRECTED_REQUEST,
    "this connection was made for another host name; ask for this one over a connection of its own",
);

#[cfg(test)]
mod tests {
    use isomer_runtime::RoomLimit;
    use isomer_runtime::engine::Dimension;

    use super::*;

    #[test]
    fn a_quota_that_a_guest_ran_into_is_named() {
        let failure = Failure::Quota { quota: Quota::Memory, reason: "of another world".into(), backtrace: Vec::new() };
        let response = Problem::from_failure(&failure).response(RequestId::from_raw(1).expect("it is not 0"));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(response.headers().contains_key(RETRY_AFTER));
        let body: serde_json::Value = serde_json::from_slice(response.body()).expect("it is JSON");
        assert_eq!(body["quota"], "memory");
        assert!(!body.to_string().contains("another world"), "the reason is for the log");
        let full =
            Problem::from_failure(&Failure::Full { limit: RoomLimit::Share { of: Dimension::Memories, accounts: 4 } });
        assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
