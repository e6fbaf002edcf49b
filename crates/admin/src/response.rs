//! The HTTP responses of the admin API.

use std::convert::Infallible;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use isomer_api::{ApiProblem, ProblemKind};

use crate::caller::Caller;

/// A request from hyper.
pub(crate) type Request = http::Request<Incoming>;

/// A response for hyper.
pub(crate) type Response = http::Response<HttpBody>;

/// The body of a response.
pub(crate) type HttpBody = UnsyncBoxBody<Bytes, Infallible>;

/// Responds with a problem in the form that the caller may see.
pub(crate) fn refuse_to(caller: Option<&Caller>, problem: ApiProblem) -> Response {
    match caller {
        Some(caller) => refuse(&caller.redacted(problem)),
        None => refuse(&problem),
    }
}

/// Responds with a problem.
pub(crate) fn refuse(problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::to_vec(problem).expect("a problem is plain data");
    let mut response = response(status, Some("application/problem+json"), Full::new(text.into()).boxed_unsync());
    if problem.kind == ProblemKind::Unauthorized {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

/// Returns a response that no cache may store.
pub(crate) fn response(status: StatusCode, media_type: Option<&'static str>, body: HttpBody) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(media_type) = media_type {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    }
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
