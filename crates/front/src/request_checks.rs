//! The layers of the front door that do not need to know the app of a request: they limit the number of requests, check
//! the request's syntax, and create the responses that the front door itself generates.

use bytes::Bytes;
use http::header::{ALLOW, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use isomer_telemetry::RequestId;
use isomer_transport::{Limiter, Permit};

use crate::activity::Activity;
use crate::forwarded::Origin;
use crate::host::{self, RequestedHost};
use crate::problem::{ASTERISK, CODING, FIELDS, HOST, INSECURE, METHOD, OVERLOADED, Problem, SCHEME};
use crate::response_body::ChargedMemory;
use crate::tab_requests::TabResponse;

/// The path of the health check, whose response is 200 with `ok` while the process accepts requests. Requests for this
/// path never reach a guest.
pub const HEALTH_PATH: &str = "/.isomer/health";

/// A response that the front door generates.
pub(crate) enum DirectResponse {
    /// An error response. The problem states why the request was refused or failed.
    Problem(Problem),
    /// The response to a health check.
    Healthy,
    /// The response to `OPTIONS *`.
    ServerOptions,
    /// The response to a request of a tab.
    Tab(Box<TabResponse>),
}

impl From<Problem> for DirectResponse {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl DirectResponse {
    /// Returns the response to the request `id`, and the memory that is charged for it.
    pub(crate) fn into_response(self, id: RequestId) -> (Response<Bytes>, Option<Box<dyn ChargedMemory>>) {
        let response = match self {
            Self::Problem(problem) => problem.response(id),
            Self::Healthy => Response::new(Bytes::from_static(b"ok\n")),
            Self::ServerOptions => server_options(),
            Self::Tab(tab) => return (tab.response, tab.memory),
        };
        (response, None)
    }
}

/// The limits for the number of requests in progress, and for the number of header fields of a request.
pub(crate) struct RequestLimits {
    requests: Limiter,
    headers_max: usize,
}

impl RequestLimits {
    pub(crate) fn new(requests_max: usize, headers_max: usize) -> Self {
        Self { requests: Limiter::new(requests_max), headers_max }
    }

    /// Acquires the permit for one more request.
    pub(crate) fn admit(&self) -> Result<Permit, Problem> {
        self.requests.try_acquire().ok_or(OVERLOADED)
    }

    /// Refuses a request with too many header fields. Over HTTP/1.1, hyper has already refused such requests.
    pub(crate) fn check_fields(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if headers.len() > self.headers_max { Err(FIELDS) } else { Ok(()) }
    }
}

/// Returns the host that the request is for, or an error with the response that the front door generates. `path` is the
/// request's path in normal form.
pub(crate) fn check<B>(request: &Request<B>, path: &str) -> Result<RequestedHost, DirectResponse> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(METHOD.into());
    }
    if has_other_coding(request.headers()) {
        return Err(CODING.into());
    }
    if path == HEALTH_PATH {
        return Err(DirectResponse::Healthy);
    }
    let host = host::requested(request).ok_or(HOST)?;
    match (request.uri().path(), request.method()) {
        ("*", &Method::OPTIONS) => Err(DirectResponse::ServerOptions),
        ("*", _) => Err(ASTERISK.into()),
        _ => Ok(host),
    }
}

/// Returns the scheme that the guest receives: the scheme that a trusted proxy announces, or otherwise the connection's
/// scheme. A request for an `https` URI is refused unless the client sent it over TLS, either to this front door or to
/// a trusted proxy (RFC 9110, section 7.4).
pub(crate) fn scheme(uri: &Uri, connection: &Activity, origin: Option<&Origin>) -> Result<Scheme, Problem> {
    let requested = uri.scheme();
    if requested.is_some_and(|requested| *requested != Scheme::HTTP && *requested != Scheme::HTTPS) {
        return Err(SCHEME);
    }
    let is_secured = connection.tls().is_some();
    if connection.endpoints().is_some_and(|ends| ends.is_trusted) {
        // The scheme between client and proxy, which may differ from the scheme between proxy and front door.
        if let Some(named) = origin.and_then(|origin| origin.scheme.clone()) {
            return Ok(named);
        }
        let is_https = is_secured || requested == Some(&Scheme::HTTPS);
        return Ok(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
    }
    match requested {
        _ if is_secured => Ok(Scheme::HTTPS),
        Some(requested) if *requested == Scheme::HTTPS => Err(INSECURE),
        _ => Ok(Scheme::HTTP),
    }
}

/// Adds the path `/` to an absolute URI without a path, such as `http://shop.example?q=1`. Both URIs are equivalent
/// (RFC 9110, section 4.2.3).
pub(crate) fn add_root(uri: &mut Uri) {
    let Some(target) = uri.path_and_query().filter(|target| target.as_str().starts_with('?')) else { return };
    let Ok(rooted) = format!("/{}", target.as_str()).parse() else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(rooted);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Returns whether the request's body has a transfer coding other than a single `chunked`. This check is needed because
/// hyper decodes only `chunked` and checks only the last coding.
pub(crate) fn has_other_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter().peekable();
    if codings.peek().is_none() {
        return false;
    }
    let codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    !codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) || codings.next().is_some()
}

/// Returns the response to `OPTIONS *`, which describes the server and not an app (RFC 9110, section 9.3.7).
fn server_options() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, allow);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, fields: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a valid request")
    }

    fn status(request: &Request<()>) -> Option<u16> {
        let path = request.uri().path();
        let refused = check(request, path).err()?;
        Some(refused.into_response(RequestId::from_raw(1).expect("it is not 0")).0.status().as_u16())
    }

    #[test]
    fn a_request_for_an_app_passes_and_all_others_get_a_response() {
        let host = ("host", "shop.example");
        for (method, target, fields, expected) in [
            ("GET", "/", &[host][..], None),
            ("OPTIONS", "/", &[host], None),
            ("GET", "/", &[host, ("transfer-encoding", "chunked")], None),
            ("OPTIONS", "*", &[host], Some(204)),
            ("GET", "*", &[host], Some(400)),
            ("GET", "/.isomer/health", &[], Some(200)),
            ("TRACE", "/", &[host], Some(405)),
            ("CONNECT", "shop.example:80", &[host], Some(405)),
            ("GET", "/", &[], Some(400)),
            ("GET", "/", &[host, host], Some(400)),
            ("GET", "/", &[host, ("transfer-encoding", "gzip, chunked")], Some(501)),
            ("GET", "/", &[host, ("transfer-encoding", "chunked, chunked")], Some(501)),
            ("GET", "/", &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Some(501)),
            ("GET", "/", &[host, ("transfer-encoding", "identity")], Some(501)),
        ] {
            assert_eq!(status(&request(method, target, fields)), expected, "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn an_https_target_needs_a_secured_connection() {
        let connection = Activity::new();
        let scheme_of = |target: &'static str| scheme(&Uri::from_static(target), &connection, None);
        assert_eq!(scheme_of("/"), Ok(Scheme::HTTP));
        assert_eq!(scheme_of("http://shop.example/"), Ok(Scheme::HTTP));
        assert_eq!(scheme_of("https://shop.example/"), Err(INSECURE));
        assert_eq!(scheme_of("ftp://shop.example/"), Err(SCHEME));
    }

    #[test]
    fn a_target_without_a_path_gets_the_root() {
        for (target, rooted) in [("http://shop.example?q=1", "/?q=1"), ("http://shop.example/a?q=1", "/a?q=1")] {
            let mut uri = Uri::from_static(target);
            add_root(&mut uri);
            assert_eq!(uri.path_and_query().expect("a path").as_str(), rooted);
        }
    }

    #[test]
    fn requests_and_their_fields_are_bounded() {
        let limits = RequestLimits::new(1, 2);
        let permit = limits.admit().expect("the first one is admitted");
        assert_eq!(limits.admit().err(), Some(OVERLOADED));
        drop(permit);
        assert!(limits.admit().is_ok());
        let two = request("GET", "/", &[("a", "1"), ("b", "2")]);
        let three = request("GET", "/", &[("a", "1"), ("a", "2"), ("a", "3")]);
        assert_eq!(limits.check_fields(two.headers()), Ok(()));
        assert_eq!(limits.check_fields(three.headers()), Err(FIELDS));
    }
}
