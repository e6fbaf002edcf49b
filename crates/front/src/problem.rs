//! The errors of the front door, as problem details (RFC 9457). Only this file chooses the HTTP status of a failure.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use isomer_api::Quota;
use isomer_telemetry::RequestId;
use serde_json::json;

use crate::failure_kind::FailureKind;
use crate::refusal::Refusal;

/// The request has more header fields than [`Limits::headers_max`](crate::Limits::headers_max). Over HTTP/1.1, hyper
/// itself responds with status 431.
pub(crate) const FIELDS: Problem =
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has more header fields than are allowed");

/// No app has the request's host.
pub(crate) const NO_HOST: Problem =
    Problem::new(StatusCode::NOT_FOUND, "no application is served under this host name");

/// The time after which clients should retry a request that was refused because of load.
const RETRY_AFTER_LOAD: Duration = Duration::from_secs(1);

/// An error as the client receives it. The detail reveals nothing about the node's internals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: &'static str,
    /// The tenant's quota that was reached, if any.
    quota: Option<Quota>,
    /// The time after which the client should retry, if any.
    retry_after: Option<Duration>,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail, quota: None, retry_after: None }
    }

    const fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    const fn quota(quota: Quota, detail: &'static str, retry_after: Duration) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self { status, detail, quota: Some(quota), retry_after: Some(retry_after) }
    }

    /// Returns the problem for a request that was not admitted.
    pub(crate) fn from_refusal(refusal: &Refusal) -> Self {
        match *refusal {
            Refusal::NoHost => NO_HOST,
            Refusal::NotBuilt => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this application is still being built: try again, or look at the terminal that builds it",
            )
            .retry_after(RETRY_AFTER_LOAD),
            Refusal::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "this application is stopped"),
            Refusal::Rate { retry_after } => {
                Self::quota(Quota::RequestRate, "the request rate exceeds this tenant's quota", retry_after)
            }
            Refusal::Concurrency => Self::quota(
                Quota::ConcurrentRequests,
                "this tenant has as many concurrent requests as its quota allows",
                RETRY_AFTER_LOAD,
            ),
            Refusal::Cpu { retry_after } => {
                Self::quota(Quota::Cpu, "this tenant has used up the processor time of its quota", retry_after)
            }
            Refusal::Loading => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many applications are being started; try again in a moment",
            )
            .retry_after(RETRY_AFTER_LOAD),
            Refusal::Broken => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the application could not be started"),
        }
    }

    /// Returns the problem for a request whose handler failed.
    pub(crate) fn from_failure(kind: FailureKind) -> Self {
        match kind {
            FailureKind::InvalidRequest => Self::new(StatusCode::BAD_REQUEST, "the request is not valid HTTP"),
            FailureKind::RequestBodyTooLarge => BODY_TOO_LARGE,
            FailureKind::Deadline => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "the application did not respond before its deadline")
            }
            FailureKind::Overloaded => OVERLOADED,
            FailureKind::Quota(quota) => Self::quota(
                quota,
                "the application has used up a quota of its tenant; try again in a moment",
                RETRY_AFTER_LOAD,
            ),
            FailureKind::Unreachable => {
                Self::new(StatusCode::BAD_GATEWAY, "a part of the application could not be reached")
            }
            FailureKind::InstanceLost => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the instance that served this request was lost; the request may have been processed completely, in part or not at all",
            )
            .retry_after(RETRY_AFTER_LOAD),
            FailureKind::CannotStart => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the application could not be started")
            }
            FailureKind::Failed => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the application failed"),
        }
    }

    /// Returns the problem for a request of a tab whose session or network exceeds its rate.
    pub(crate) fn too_many_from_tab(retry_after: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "this browser or network sends too many requests; try again in a moment",
        )
        .retry_after(retry_after)
    }

    /// Returns the problem as a response. `id` identifies the request in the logs.
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
            // The header contains whole seconds (RFC 9110, section 10.2.3). They are rounded up, because a client that
            // retries too early is refused again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        response
    }
}

/// The front door or the engine has reached its maximum number of requests.
pub(crate) const OVERLOADED: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many concurrent requests; try again in a moment")
        .retry_after(RETRY_AFTER_LOAD);

/// The app was not loaded from disk in time.
pub(crate) const NOT_LOADED: Problem =
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the application did not start in time; try again in a moment")
        .retry_after(RETRY_AFTER_LOAD);

/// The request's body is larger than the component's maximum.
pub(crate) const BODY_TOO_LARGE: Problem =
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than this application accepts");

/// The request's body did not arrive in time.
pub(crate) const BODY_TOO_SLOW: Problem =
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time");

/// The app has no route for the path.
pub(crate) const NOT_FOUND: Problem = Problem::new(StatusCode::NOT_FOUND, "nothing is served at this path");

/// The method is CONNECT or TRACE.
pub(crate) const METHOD: Problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no application handles this method");

/// The request's body has a transfer coding that the front door does not decode (RFC 9112, section 6.1).
pub(crate) const CODING: Problem = Problem::new(
    StatusCode::NOT_IMPLEMENTED,
    "the request's transfer coding is not supported; only a single `chunked` is supported",
);

/// The request is for an `https` URI, but the connection does not use TLS (RFC 9110, section 7.4).
pub(crate) const INSECURE: Problem = Problem::new(
    StatusCode::MISDIRECTED_REQUEST,
    "the request is for an https URI, but this connection does not use TLS; send the request over TLS",
);

/// The scheme of the request's URI is neither `http` nor `https`.
pub(crate) const SCHEME: Problem = Problem::new(StatusCode::BAD_REQUEST, "only http and https URIs are supported");

/// The request target is `*`, but the method is not OPTIONS.
pub(crate) const ASTERISK: Problem =
    Problem::new(StatusCode::BAD_REQUEST, "only OPTIONS requests can have the target `*` (RFC 9112, section 3.2.4)");

/// The request has no host, several hosts, or an invalid one.
pub(crate) const HOST: Problem = Problem::new(
    StatusCode::BAD_REQUEST,
    "the request needs exactly one valid Host header (or :authority), as RFC 9112, section 3.2 requires",
);

/// The connection's certificate does not cover the requested host (RFC 9110, section 15.5.20).
pub(crate) const MISDIRECTED: Problem = Problem::new(
    StatusCode::MISDIRECTED_REQUEST,
    "this connection is for another host name; use a separate connection for the requested host name",
);

/// A request to the gateway with another method than that of its path.
pub(crate) const TAB_METHOD: Problem =
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not accept this method");

/// A request to the gateway does not come from a page of the app.
pub(crate) const FOREIGN: Problem =
    Problem::new(StatusCode::FORBIDDEN, "only pages of this application's own origin may send this request");

/// A request to the gateway has no session, or states the identity of another one. The tab requests its identity again.
pub(crate) const NO_SESSION: Problem = Problem::new(
    StatusCode::UNAUTHORIZED,
    "the request has no valid session, or the identity of another one; request it with `POST /_isomer/session`",
);

/// A request to the gateway has another content type than its path requires.
pub(crate) const UNSUPPORTED: Problem =
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the request has another content type than this path requires");

/// A request to the gateway is not valid.
pub(crate) const INVALID_BODY: Problem =
    Problem::new(StatusCode::BAD_REQUEST, "the request is not valid for this path, or arrived only in part");

/// A call is for a revision that is not in memory any more.
pub(crate) const GONE: Problem =
    Problem::new(StatusCode::GONE, "this revision of the application is not served any more; load the page again");

/// The tenant has no memory left for a request to the gateway.
pub(crate) const OUT_OF_MEMORY: Problem = Problem::quota(
    Quota::Memory,
    "the application has used up a quota of its tenant; try again in a moment",
    RETRY_AFTER_LOAD,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_a_guest_reached_is_named() {
        let problem = Problem::from_failure(FailureKind::Quota(Quota::Memory));
        let response = problem.response(RequestId::from_raw(1).expect("it is not 0"));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(response.headers().contains_key(RETRY_AFTER));
        let body: serde_json::Value = serde_json::from_slice(response.body()).expect("it is JSON");
        assert_eq!(body["quota"], "memory");
        assert_eq!(body["id"], "0000000000000001");
    }

    #[test]
    fn each_refusal_has_a_status_and_says_when_to_retry() {
        let retry_after = Duration::from_millis(1500);
        for (refusal, status, seconds) in [
            (Refusal::NoHost, 404, None),
            (Refusal::NotBuilt, 503, Some("1")),
            (Refusal::Stopped, 503, None),
            (Refusal::Rate { retry_after }, 429, Some("2")),
            (Refusal::Concurrency, 429, Some("1")),
            (Refusal::Cpu { retry_after }, 429, Some("2")),
            (Refusal::Loading, 503, Some("1")),
            (Refusal::Broken, 500, None),
        ] {
            let response = Problem::from_refusal(&refusal).response(RequestId::from_raw(1).expect("it is not 0"));
            assert_eq!(response.status(), status, "{refusal}");
            let header = response.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("a number"));
            assert_eq!(header, seconds, "{refusal}");
        }
    }
}
