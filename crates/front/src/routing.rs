//! The layer that finds the component of a request, and sets the request's URI and trace for the guest.

use http::header::CONTENT_LENGTH;
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use isomer_telemetry::TraceContext;

use crate::handler::Handler;
use crate::problem::{BODY_TOO_LARGE, HOST, NOT_FOUND, Problem};
use crate::site::{Site, SiteRoute};
use crate::trace::{TRACEPARENT, traceparent};

/// Returns the route of a request whose path in normal form is `path`. Refuses a request whose announced body exceeds
/// the maximum of the route's target.
pub(crate) fn route<'a, H: Handler, B>(
    site: &'a Site<H>,
    path: &str,
    request: &Request<B>,
) -> Result<&'a SiteRoute<H>, Problem> {
    let route = site.find(path).ok_or(NOT_FOUND)?;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > route.target.body_bytes_max) {
        return Err(BODY_TOO_LARGE);
    }
    Ok(route)
}

/// Prepares the request for the guest: makes its URI absolute with `scheme` and `authority`, and sets its `traceparent`
/// field to `trace`.
pub(crate) fn prepare<B>(
    request: &mut Request<B>,
    scheme: Scheme,
    authority: Authority,
    trace: TraceContext,
) -> Result<(), Problem> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| HOST)?;
    request.headers_mut().insert(TRACEPARENT, traceparent(trace));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::target;
    use crate::site::RouteTarget;

    #[test]
    fn a_request_gets_an_absolute_uri_and_the_trace_of_its_span() {
        let received = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut request = Request::builder().uri("/a?b").header("traceparent", received).body(()).expect("valid");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01";
        let context = TraceContext::parse(trace.as_bytes()).expect("valid");
        prepare(&mut request, Scheme::HTTPS, Authority::from_static("shop.example:8443"), context).expect("valid");
        assert_eq!(request.uri(), "https://shop.example:8443/a?b");
        assert_eq!(request.headers().get_all("traceparent").iter().collect::<Vec<_>>(), [trace]);
    }

    #[test]
    fn unknown_paths_and_large_bodies_are_refused() {
        let mut site = Site::new();
        site.exact("/upload", RouteTarget { body_bytes_max: 10, ..target("upload") });
        let request = |length: &str| Request::builder().header("content-length", length).body(()).expect("valid");
        assert!(route(&site, "/upload", &request("10")).is_ok());
        assert_eq!(route(&site, "/upload", &request("11")).err(), Some(BODY_TOO_LARGE));
        assert_eq!(route(&site, "/other", &request("10")).err(), Some(NOT_FOUND));
    }
}
