//! The last layer: the parts of a response's head that HTTP determines, independent of what produced the response.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use crate::handler::Handler;
use crate::request_body::{BodyOutcome, BodySource};
use crate::request_checks::has_other_coding;
use crate::response_body::ResponseBody;
use crate::response_semantics::has_no_content;

/// The properties of a request on which the head of its response depends.
pub(crate) struct ResponseHead {
    is_head: bool,
    /// Whether the client waits for `100 (Continue)` before it sends its body.
    waits_to_send: bool,
    /// Whether the request's body has a coding that is not decoded.
    has_other_coding: bool,
}

impl ResponseHead {
    /// Reads these properties of a request.
    pub(crate) fn for_request(request: &Request<BodySource>) -> Self {
        let is_http1 = request.version() < Version::HTTP_2;
        Self {
            is_head: request.method() == Method::HEAD,
            waits_to_send: is_http1 && waits_to_send(request),
            has_other_coding: is_http1 && has_other_coding(request.headers()),
        }
    }

    /// Completes the head of `response`. `outcome` tells whether the request's body was read.
    pub(crate) fn complete<H: Handler>(
        &self,
        mut response: Response<ResponseBody<H>>,
        outcome: &BodyOutcome,
    ) -> Response<ResponseBody<H>> {
        // Closes the connection after the response. A client that was not told to send its body may send it
        // nevertheless, and a body with another coding may not end where it seems to. In both cases the bytes of the
        // body cannot be told from the next request.
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

/// Returns the response to HEAD: the response to GET without its body (RFC 9110, section 9.3.2). Done here for both
/// versions of HTTP, since hyper sends the body over HTTP/2.
fn without_body<H: Handler>(mut response: Response<ResponseBody<H>>) -> Response<ResponseBody<H>> {
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes));
    }
    response.map(ResponseBody::unsent)
}

/// Removes the content of a response whose status excludes content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5). Done
/// here for both versions of HTTP, since hyper sends the body over HTTP/2.
fn without_content<H: Handler>(mut response: Response<ResponseBody<H>>) -> Response<ResponseBody<H>> {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    if response.status() == StatusCode::RESET_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response.map(ResponseBody::unsent)
}
