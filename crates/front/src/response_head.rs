//! The last layer that a response passes. It sets the parts of the head that HTTP determines for every response,
//! whether a guest or the front door generated it.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use crate::handler::Handler;
use crate::request_body::{BodyOutcome, BodySource};
use crate::request_checks::has_other_coding;
use crate::response_body::ResponseBody;
use crate::response_semantics::has_no_content;

/// The properties of a request that affect the head of its response.
pub(crate) struct ResponseHead {
    is_head: bool,
    /// Whether the client waits for `100 (Continue)` before it sends its body.
    waits_to_send: bool,
    /// Whether the request's body has a transfer coding that the front door does not decode.
    has_other_coding: bool,
}

impl ResponseHead {
    /// Reads the properties of `request`.
    pub(crate) fn for_request(request: &Request<BodySource>) -> Self {
        let is_http1 = request.version() < Version::HTTP_2;
        Self {
            is_head: request.method() == Method::HEAD,
            waits_to_send: is_http1 && waits_to_send(request),
            has_other_coding: is_http1 && has_other_coding(request.headers()),
        }
    }

    /// Completes the head of `response`. `outcome` states whether the request's body was read.
    pub(crate) fn complete<H: Handler>(
        &self,
        mut response: Response<ResponseBody<H>>,
        outcome: &BodyOutcome,
    ) -> Response<ResponseBody<H>> {
        // In two cases, bytes of the request's body could be mistaken for the next request, so the connection is closed
        // after the response: the end of a body with an unknown coding cannot be found, and a client that waited for
        // `100 (Continue)` and did not get it may send its body or not.
        if self.has_other_coding || (self.waits_to_send && outcome.is_unread()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if has_no_content(response.status()) {
            without_content(response)
        } else if self.is_head {
            without_body(response)
        } else {
            response
        }
    }
}

/// Returns whether the client waits for `100 (Continue)` before it sends its body (RFC 9110, section 10.1.1). Hyper
/// sends `100` when the body is first read.
fn waits_to_send(request: &Request<BodySource>) -> bool {
    let expect = request.headers().get(EXPECT);
    expect.is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !request.body().is_end_stream()
}

/// Converts `response` to the response to a HEAD request, which has no body (RFC 9110, section 9.3.2). Needed because
/// hyper would send the body over HTTP/2.
fn without_body<H: Handler>(mut response: Response<ResponseBody<H>>) -> Response<ResponseBody<H>> {
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes));
    }
    response.map(ResponseBody::unsent)
}

/// Removes the content of a response whose status does not allow content (RFC 9110, sections 15.3.5, 15.3.6 and
/// 15.4.5). Needed because hyper would send the body over HTTP/2.
fn without_content<H: Handler>(mut response: Response<ResponseBody<H>>) -> Response<ResponseBody<H>> {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    if response.status() == StatusCode::RESET_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response.map(ResponseBody::unsent)
}
