//! The spans of outgoing HTTP requests.

use std::sync::{Arc, LazyLock};

use http::{HeaderName, HeaderValue};
use isomer_display::excerpt;
use isomer_telemetry::{ActiveSpan, SpanContext, SpanKind, SpanTemplate, semantics};
use wasmtime_wasi_http::Error as HttpError;

use crate::spans::CANCELLED;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The template for the spans. The name is replaced by the method.
static TEMPLATE: LazyLock<Arc<SpanTemplate>> =
    LazyLock::new(|| Arc::new(SpanTemplate::new("HTTP request", SpanKind::Client)));

/// The span of an outgoing HTTP request. The span ends when the exchange with the server ends.
pub(super) struct OutboundSpan(ActiveSpan);

impl OutboundSpan {
    /// Starts the span of `request`, which `component` sends, and adds the field `traceparent` unless the guest has set it.
    ///
    /// The attributes do not contain the path and the query, because they often contain secrets.
    pub(super) fn begin<B>(current: &SpanContext, component: &Arc<str>, request: &mut http::Request<B>) -> Self {
        let mut span = current.begin_from(&TEMPLATE).fails_unless_ended(CANCELLED);
        let context = span.context().trace();
        request.headers_mut().entry(TRACEPARENT).or_insert_with(|| {
            let field = HeaderValue::from_bytes(&context.to_traceparent());
            field.expect("hexadecimal digits and dashes are a header value")
        });
        if span.is_recording() {
            let (method, uri, component) = (request.method().clone(), request.uri().clone(), component.clone());
            span.describe(move |details| {
                details.rename(method.as_str().to_owned());
                details.set_component(component);
                details.set(semantics::HTTP_METHOD, method.as_str().to_owned());
                if let Some(scheme) = uri.scheme_str() {
                    details.set(semantics::URL_SCHEME, scheme.to_owned());
                }
                if let Some(host) = uri.host() {
                    details.set(semantics::SERVER_ADDRESS, host.to_owned());
                }
                let default = if uri.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 };
                details.set(semantics::SERVER_PORT, uri.port_u16().unwrap_or(default));
            });
        }
        Self(span)
    }

    /// Records the status of the response, or why there is no response. A status of 500 to 599 is a failure.
    pub(super) fn set_head<B, I>(&mut self, sent: &Result<(http::Response<B>, I), HttpError>) {
        // The head has arrived, so dropping the body is no failure: the guest may ignore it.
        self.0.set_failure_if_dropped(None);
        match sent {
            Ok((response, _)) => {
                let status = response.status();
                self.0.set(semantics::HTTP_STATUS, status.as_u16());
                if status.is_server_error() {
                    self.0.fail("the server responded with an error");
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Ends the span when the exchange with the server has ended.
    pub(super) fn end(mut self, ended: &Result<(), HttpError>) {
        if let Err(error) = ended {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: &HttpError) {
        if self.0.is_recording() {
            self.0.fail(excerpt::cut(format_args!("{error:?}"), excerpt::TEXT_BYTES_MAX));
        }
    }
}
