//! The span of a request, from the arrival of its head until the body of its response has ended.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request};
use isomer_telemetry::{ActiveSpan, RequestId, SpanContext, SpanDetails, SpanKind, TraceContext, Tracer, semantics};

use crate::site::SiteRoute;
use crate::trace::TRACEPARENT;

/// The span of a request. It ends when it is dropped.
///
/// The span is recorded if the request is sampled, if its status is 500 to 599, if its response is cut off, or if it is
/// slow. The attributes are formatted only in these cases.
pub(crate) struct RequestSpan {
    span: ActiveSpan,
    /// The properties of the request; `None` after they were passed to `span`.
    properties: Option<RequestProperties>,
}

/// The properties of a request that become attributes of its span.
struct RequestProperties {
    method: Method,
    target: Option<PathAndQuery>,
    scheme: Scheme,
    route: Arc<str>,
    component: Arc<str>,
    client: Option<IpAddr>,
    status: u16,
    body_bytes: u64,
    is_failed: bool,
}

/// The client of a request, as its span describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpanClient {
    /// The client's address, if it is known.
    pub(crate) address: Option<IpAddr>,
    /// Whether the request arrived from a trusted proxy. Only then does the sampled flag in its `traceparent` make the
    /// request sampled. The proxy decides whether it passes on the flags of its own clients.
    pub(crate) is_trusted: bool,
}

impl RequestSpan {
    /// Starts the span of the request `id`, which arrived at `start` and matches `route`. The request stays in the
    /// trace of its `traceparent` field, if the field is valid. Returns the context of the operations that the request
    /// causes, and the span. The span is `None` if nothing is recorded.
    pub(crate) fn begin<H, B>(
        tracer: &Tracer,
        request: &Request<B>,
        (id, start): (RequestId, Instant),
        route: &SiteRoute<H>,
        scheme: &Scheme,
        client: SpanClient,
    ) -> (SpanContext, Option<Box<Self>>) {
        let incoming = request.headers().get(TRACEPARENT);
        let incoming = incoming.and_then(|field| TraceContext::parse(field.as_bytes()));
        let span = tracer.begin_request(incoming, client.is_trusted, id, request.uri().path(), start);
        let context = span.context().clone();
        if !span.is_recording() {
            return (context, None);
        }
        let properties = RequestProperties {
            method: request.method().clone(),
            target: request.uri().path_and_query().cloned(),
            scheme: scheme.clone(),
            route: route.pattern.clone(),
            component: route.target.component.clone(),
            client: client.address,
            status: 0,
            body_bytes: 0,
            is_failed: false,
        };
        (context, Some(Box::new(Self { span, properties: Some(properties) })))
    }

    /// Marks the request as failed.
    pub(crate) fn fail(&mut self, reason: String) {
        if let Some(properties) = &mut self.properties {
            properties.is_failed = true;
            self.span.fail(reason);
        }
    }

    /// Records the status of the response. A status of 500 to 599 is a failure.
    pub(crate) fn set_status(&mut self, status: u16) {
        let Some(properties) = &mut self.properties else { return };
        properties.status = status;
        if status >= 500 && !properties.is_failed {
            self.span.fail(format!("status {status}"));
        }
    }

    /// Sets the duration of the request, which has ended.
    pub(crate) fn set_duration(&mut self, duration: Duration) {
        self.span.set_duration(duration);
    }

    /// Counts bytes of the response's body.
    pub(crate) fn add_body_bytes(&mut self, bytes: u64) {
        if let Some(properties) = &mut self.properties {
            properties.body_bytes += bytes;
        }
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(properties) = self.properties.take() {
            self.span.describe(move |details| properties.describe(details));
        }
    }
}

impl RequestProperties {
    fn describe(self, details: &mut SpanDetails) {
        // Clients may send any method. The span's name contains only known methods, so that it has few distinct values.
        let method = if is_known(&self.method) { self.method.as_str() } else { "HTTP" };
        details.rename(format!("{method} {}", self.route));
        details.set_kind(SpanKind::Server);
        details.set_component(&self.component);
        details.set(semantics::HTTP_METHOD, self.method.as_str().to_owned());
        details.set(semantics::HTTP_ROUTE, &self.route);
        // The query is omitted because it may contain secrets.
        details.set(semantics::URL_PATH, self.target.as_ref().map_or("", PathAndQuery::path).to_owned());
        details.set(semantics::URL_SCHEME, self.scheme.as_str().to_owned());
        if let Some(client) = self.client {
            details.set(semantics::CLIENT_ADDRESS, client.to_string());
        }
        details.set(semantics::HTTP_STATUS, self.status);
        details.set(semantics::HTTP_RESPONSE_BYTES, self.body_bytes);
    }
}

fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
    )
}
