//! The hooks of wasmtime's HTTP implementation. An outgoing request is sent with the grants of one owner, which the
//! host function sets before it sends the request (`Guest::enter_sender`).

use std::sync::{Arc, LazyLock};

use http::HeaderName;
use isomer_telemetry::SpanContext;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use super::outbound_span::OutboundSpan;
use super::template::GroupTemplate;

/// The value of `current` while no owner is entered. An outgoing request is then refused.
pub(crate) const NO_OWNER: usize = usize::MAX;

/// The maximum number of bytes of a body that are copied out of a guest as one chunk. Each request may hold a few
/// chunks in host memory.
const CHUNK_BYTES: usize = 64 << 10;

/// The host memory in bytes of one exchange with an external server: the waiting chunks of both bodies, the head of the
/// response, and the connection with its buffers. An exchange cannot take more, because `BUFFER_BYTES` in
/// `outbound/http_connection.rs` limits the buffers.
const OUTBOUND_EXCHANGE_BYTES: usize = 256 << 10;

/// The HTTP hooks of one wasmtime store.
pub(crate) struct OutboundHooks {
    pub(crate) template: Arc<GroupTemplate>,
    /// The index of the owner whose request is being sent. `enter` sets it immediately before a request is sent, and
    /// sending the request resets it.
    pub(crate) current: usize,
    /// The span that causes the request that is being sent. It is set together with `current`.
    pub(crate) span: Option<SpanContext>,
}

/// wasmtime's list of forbidden header names, created once. wasmtime's default implementation creates the list again
/// for each field of each message.
static FORBIDDEN: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

static FORBIDDEN_FILTER: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(|name| FORBIDDEN.contains(name)));

impl WasiHttpHooks for OutboundHooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN.contains(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        FORBIDDEN_FILTER.clone()
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>),
                    HttpError,
                >,
            > + Send,
    > {
        let owner = std::mem::replace(&mut self.current, NO_OWNER);
        let owner = self.template.owners.get(owner);
        let Some((component, outbound)) = owner.and_then(|owner| Some((&owner.component, owner.outbound.as_ref()?)))
        else {
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        };
        let span = self.span.take().map(|current| OutboundSpan::begin(&current, component, &mut request));
        let Ok(memory) = self.template.account.charge_host_memory(OUTBOUND_EXCHANGE_BYTES) else {
            return Box::new(async {
                Err(HttpError::InternalError(Some("the tenant's memory is used up".to_owned())))
            });
        };
        let sent = outbound.send(request, options, Some(&self.template.denials));
        Box::new(async move {
            let mut span = span;
            let sent = sent.await;
            if let Some(span) = &mut span {
                span.set_head(&sent);
            }
            let (response, io) = sent?;
            let io = async move {
                let _memory = memory;
                let ended = io.await;
                if let Some(span) = span {
                    span.end(&ended);
                }
                ended
            };
            Ok((response, Box::new(io) as Box<dyn Future<Output = Result<(), HttpError>> + Send>))
        })
    }
}
