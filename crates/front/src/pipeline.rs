//! The layers that a request passes through, in this order. The first layer is the outermost one: it completes the
//! response after all others.
//!
//! | layer | file |
//! | --- | --- |
//! | completes the head of the response (HEAD, no content, `connection: close`) | `response_head` |
//! | records the access-log line, and the span | `access_log`, `request_span`, `request_record` |
//! | limits the requests in progress, and the header fields | `request_checks` |
//! | determines the client of the request | `forwarded` |
//! | sends the responses that the front door itself generates; determines the host and the scheme | `request_checks`, `host` |
//! | finds the app of the host; admits the request; loads the app | `admission` |
//! | writes the forwarded fields for the guest | `forwarded` |
//! | in apps with a browser group: serves the requests of tabs; finds the session of other requests, and rewrites their cookies | `tab_requests` |
//! | finds the route and its limits; prepares the URI and the trace for the guest | `routing` |
//! | calls the handler, and determines what its failure means for the client | `handler`, `problem` |
//! | in apps with a browser group: filters cookies, sets the session's cookie, appends the registration script | `appended_body` |
//! | processes streams of events; compresses | `event_stream`, `negotiation`, `compressor` |
//!
//! A layer that refuses a request returns a [`DirectResponse`], and one function converts it to a response. The layers
//! are functions that run one after the other. An alternative, services that wrap each other, was rejected: the future
//! of each service would contain the future of the next one, and the request would be copied into each of these
//! futures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use http::{Method, Request, Response};
use isomer_gateway::{GatewayClient, RequestTime, TabEndpoint};
use isomer_observe::Log;
use isomer_telemetry::metrics::{MethodClass, RequestMeter, RouteMetrics};
use isomer_telemetry::{Event, RequestId, SpanContext, TraceContext};
use isomer_transport::ClientNetwork;

use crate::access_log::AccessLine;
use crate::activity::ActiveRequest;
use crate::admission::Admission;
use crate::appended_body::AppendedBody;
use crate::compressor::Compressor;
use crate::event_stream::EventClock;
use crate::forwarded::Origin;
use crate::handler::{Handler, HandlerFailure, HandlerRequest};
use crate::limits::{BODY_WINDOW_BYTES, Limits};
use crate::negotiation::AcceptedCodings;
use crate::problem::{NO_HOST, NOT_FOUND, Problem};
use crate::proxies::Proxies;
use crate::request_body::{BodyOutcome, BodySource, RequestBody};
use crate::request_checks::{self, DirectResponse, RequestLimits};
use crate::request_record::RequestRecord;
use crate::request_span::{RequestSpan, SpanClient};
use crate::resolver::SiteResolver;
use crate::response_body::{BodyCoding, CutOffReporter, RequestPermits, ResponseBody};
use crate::response_head::ResponseHead;
use crate::response_semantics::{has_no_content, is_event_stream};
use crate::site::{RouteTarget, Site, SiteInUse, TabRoutes};
use crate::tab_requests::TabRequest;
use crate::{path, routing, tab_requests};

/// Responds to requests. All connections share one pipeline.
pub(crate) struct Pipeline<H: Handler> {
    limits: RequestLimits,
    admission: Admission<H>,
    body_timeout: Duration,
    log: Log,
    /// The metrics of requests that are refused before their app is found.
    unmatched: Arc<RouteMetrics>,
}

/// A request in progress, with the values that its layers have set.
struct Exchange {
    id: RequestId,
    start: Instant,
    /// The span of the request; `None` before its route is found.
    trace: Option<TraceContext>,
    permits: RequestPermits,
    record: RequestRecord,
    /// The outcome of reading the request's body.
    outcome: BodyOutcome,
}

/// A handler's response, and how its body is processed.
struct HandlerResponse<H: Handler> {
    response: Response<AppendedBody<H::Body>>,
    coding: BodyCoding<H>,
    events: Option<EventClock>,
    reporter: CutOffReporter<H>,
}

/// A request of a tab that has arrived.
struct TabArrival<'a> {
    endpoint: TabEndpoint<'a>,
    client: GatewayClient,
    span_client: SpanClient,
    /// The authority that the client's browser used.
    authority: Authority,
}

impl<H: Handler> Pipeline<H> {
    pub(crate) fn new(limits: &Limits, resolver: Arc<dyn SiteResolver<H>>, log: Log) -> Self {
        let unmatched = resolver.metrics().map(|metrics| RouteMetrics::of_process(metrics.process().clone()));
        Self {
            unmatched: unmatched.unwrap_or_default(),
            limits: RequestLimits::new(limits.requests_max, limits.headers_max),
            admission: Admission::new(resolver, limits.load_timeout),
            body_timeout: limits.body_timeout,
            log,
        }
    }

    /// Responds to a request. If the request cannot be served, the response is a [`Problem`]. Trusts the forwarding
    /// fields of `proxies`.
    pub(crate) async fn respond(
        &self,
        mut request: Request<BodySource>,
        connection: ActiveRequest,
        proxies: &Proxies,
    ) -> Response<ResponseBody<H>> {
        request_checks::add_root(request.uri_mut());
        let head = ResponseHead::for_request(&request);
        let (id, start) = (RequestId::random(), Instant::now());
        let mut exchange = Exchange {
            id,
            start,
            trace: None,
            permits: RequestPermits { front: None, tenant: None, connection },
            record: RequestRecord {
                access: AccessLine::begin(&self.log, &request, id, start),
                span: None,
                meter: RequestMeter::begin(MethodClass::of(request.method().as_str()), start),
            },
            outcome: BodyOutcome::default(),
        };
        let result = self.run_layers(request, &mut exchange, proxies).await;
        exchange.record.meter.set_metrics(&self.unmatched);
        let outcome = exchange.outcome.clone();
        let response = match result {
            Ok(response) => exchange.finish(response),
            Err(direct) => exchange.finish_directly(direct),
        };
        head.complete(response, &outcome)
    }

    /// Runs all layers after the first two: from the limits on requests and header fields to the handler and the
    /// compression of its response.
    async fn run_layers(
        &self,
        mut request: Request<BodySource>,
        exchange: &mut Exchange,
        proxies: &Proxies,
    ) -> Result<HandlerResponse<H>, DirectResponse> {
        exchange.permits.front = Some(self.limits.admit()?);
        self.limits.check_fields(request.headers())?;

        let endpoints = exchange.permits.connection.endpoints();
        let origin = endpoints.map(|ends| Origin::of(request.headers(), ends, &proxies.trusted));
        let client = SpanClient {
            address: origin.as_ref().map(|origin| origin.client),
            is_trusted: endpoints.is_some_and(|ends| ends.is_trusted),
        };
        if let Some(line) = &mut exchange.record.access {
            line.record().client = client.address;
        }

        let normalized = path::normalize(request.uri().path());
        let host = request_checks::check(&request, normalized.as_deref().unwrap_or(request.uri().path()))?;
        let scheme = request_checks::scheme(request.uri(), &exchange.permits.connection, origin.as_ref())?;

        let Exchange { start, permits, record, .. } = exchange;
        let admitted = self.admission.admit(host, *start, permits, record.access.as_deref_mut()).await;
        let withdrawn = || tab_requests::withdrawn(&request, normalized.as_deref().unwrap_or(request.uri().path()));
        let (site, authority) = match admitted {
            Err(NO_HOST) => return Err(withdrawn().map_or(NO_HOST.into(), DirectResponse::Tab)),
            admitted => admitted?,
        };
        if let (Some(line), Some(owner)) = (&mut exchange.record.access, site.owner()) {
            line.set_owner(owner);
        }

        let mut page = None;
        if let (Some(origin), Some(ends)) = (origin, exchange.permits.connection.endpoints()) {
            origin.write(request.headers_mut(), ends, &scheme, &authority);
        }

        let forwards = exchange.permits.connection.endpoints().is_some();
        if let Some(tabs) = site.tabs() {
            let gateway_client =
                GatewayClient { network: client.address.map(ClientNetwork::of), scheme: scheme.clone() };
            let path = normalized.as_deref().unwrap_or(request.uri().path()).to_owned();
            if let Some(endpoint) = TabEndpoint::of(request.method(), &path) {
                let endpoint = endpoint.map_err(tab_requests::no_endpoint)?;
                let authority = tab_requests::browser_authority(request.headers(), forwards, &authority);
                let tab = TabArrival { endpoint, client: gateway_client, span_client: client, authority };
                return Err(self.serve_tab(&site, tabs, tab, request, exchange).await?);
            }
            let (method, time) = (request.method().clone(), RequestTime::now());
            page = Some(tabs.gateway.begin_page(&method, request.headers_mut(), gateway_client, time));
        } else if let Some(response) =
            tab_requests::withdrawn(&request, normalized.as_deref().unwrap_or(request.uri().path()))
        {
            return Err(DirectResponse::Tab(response));
        }

        let route = routing::route(&site, normalized.as_deref().unwrap_or(request.uri().path()), &request);
        exchange.record.meter.set_metrics(route.as_ref().map_or(site.unmatched(), |route| &route.metrics));
        let route = route?;
        let target = &route.target;
        let arrival = (exchange.id, exchange.start);
        let (context, span) = RequestSpan::begin(site.tracer(), &request, arrival, route, &scheme, client);
        if context.is_sampled() {
            exchange.record.meter.set_trace(context.trace().trace_id);
        }
        exchange.record.span = span;
        if let Some(line) = &mut exchange.record.access {
            line.set_component(&target.component);
            line.record().trace = Some(context.trace());
        }
        routing::prepare(&mut request, scheme, authority, context.trace())?;

        let accepted = target.compress.then(|| AcceptedCodings::of(request.headers()));
        let is_head = request.method() == Method::HEAD;
        exchange.trace = Some(context.trace());
        let mut response = self.call_handler(&site, target, request, context, exchange).await?;
        let appended = page.zip(site.tabs()).and_then(|(page, tabs)| {
            let status = response.status();
            tabs.gateway.finish_page(page, status, response.headers_mut())
        });
        let response = response.map(|body| AppendedBody::new(body, appended));
        Ok(self.shape_response(response, &site, target, accepted.as_ref(), is_head, exchange))
    }

    /// Responds to a request of a tab.
    async fn serve_tab(
        &self,
        site: &SiteInUse<H>,
        tabs: &TabRoutes<H>,
        tab: TabArrival<'_>,
        request: Request<BodySource>,
        exchange: &mut Exchange,
    ) -> Result<DirectResponse, DirectResponse> {
        let TabArrival { endpoint, client, span_client, authority } = tab;
        let route = tabs.route(endpoint).ok_or(NOT_FOUND)?;
        exchange.record.meter.set_metrics(&route.metrics);
        let arrival = (exchange.id, exchange.start);
        let (span, recorded) = RequestSpan::begin(site.tracer(), &request, arrival, route, &client.scheme, span_client);
        if span.is_sampled() {
            exchange.record.meter.set_trace(span.trace().trace_id);
        }
        exchange.record.span = recorded;
        if let Some(line) = &mut exchange.record.access {
            line.set_component(&route.target.component);
            line.record().trace = Some(span.trace());
        }
        let tab = TabRequest {
            gateway: &tabs.gateway,
            target: &route.target,
            client,
            authority,
            id: exchange.id,
            start: exchange.start,
            span,
            body_timeout: self.body_timeout,
            events: site.events(&self.log),
        };
        // Boxed for the same reason as the handler's future.
        let response = Box::pin(tab.respond(endpoint, request, &exchange.outcome)).await?;
        if let (Some(failure), Some(span)) = (&response.failure, &mut exchange.record.span) {
            span.fail(failure.to_string());
        }
        Ok(DirectResponse::Tab(Box::new(response)))
    }

    /// Calls the handler. Logs a failure in the app's log.
    async fn call_handler(
        &self,
        site: &Site<H>,
        target: &RouteTarget<H>,
        request: Request<BodySource>,
        span: SpanContext,
        exchange: &mut Exchange,
    ) -> Result<Response<H::Body>, Problem> {
        let Exchange { id, start, outcome, record, .. } = exchange;
        let trace = span.trace();
        let longest = usize::try_from(request.body().size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let limit = |body| RequestBody::new(body, target.body_bytes_max, self.body_timeout, outcome.clone());
        let request = HandlerRequest {
            http: request.map(limit),
            id: *id,
            span,
            deadline: *start + target.deadline,
            allowed: target.deadline,
            stream_allowed: target.stream.max,
            component: target.component.clone(),
            buffer_bytes: longest.min(BODY_WINDOW_BYTES),
        };
        // Without the box, the handler's future would be a part of the future of `respond`, which is moved several
        // times, and each move copies all its bytes.
        let result = Box::pin(target.handler.handle(request)).await;
        match (outcome.problem(), result) {
            (None, Ok(response)) => Ok(response),
            (Some(problem), _) => {
                if let Some(log) = site.log() {
                    log.refused(&target.component, *id, trace, problem.status.as_u16(), problem.detail);
                }
                Err(problem)
            }
            (None, Err(failure)) => {
                if let Some(span) = &mut record.span {
                    span.fail(failure.to_string());
                }
                site.events(&self.log).emit(Event::RequestFailed {
                    component: &target.component,
                    request: *id,
                    trace: Some(trace),
                    reason: &failure,
                    backtrace: failure.backtrace(),
                    response_cut_off: false,
                });
                Err(Problem::from_failure(failure.kind()))
            }
        }
    }

    /// Decides how the body of a handler's response is processed: whether the time limits of a stream of events apply,
    /// and whether the body is compressed.
    fn shape_response(
        &self,
        mut response: Response<AppendedBody<H::Body>>,
        site: &SiteInUse<H>,
        target: &RouteTarget<H>,
        accepted: Option<&AcceptedCodings>,
        is_head: bool,
        exchange: &Exchange,
    ) -> HandlerResponse<H> {
        let Exchange { id, start, trace, outcome, .. } = exchange;
        let status = response.status();
        let is_stream = !is_head && !has_no_content(status) && is_event_stream(response.headers());
        let allowed = if is_stream { target.stream.max } else { target.deadline };
        let events = is_stream.then(|| EventClock::new(target.stream, (*start).into(), Instant::now().into()));
        let coding = accepted.and_then(|accepted| {
            accepted.decide(status, response.headers_mut(), |coding| match is_head {
                true => Some(BodyCoding::CompressedUnsent),
                false => Compressor::reserve(coding, &target.handler).map(BodyCoding::Compressed),
            })
        });
        let reporter = CutOffReporter {
            id: *id,
            trace: *trace,
            component: target.component.clone(),
            deadline: *start + allowed,
            allowed,
            request_body: outcome.clone(),
            site: site.clone(),
            log: self.log.clone(),
        };
        HandlerResponse { response, coding: coding.unwrap_or(BodyCoding::Identity), events, reporter }
    }
}

impl Exchange {
    /// Converts a handler's response to the response for the client.
    fn finish<H: Handler>(self, handled: HandlerResponse<H>) -> Response<ResponseBody<H>> {
        let Self { permits, mut record, .. } = self;
        let HandlerResponse { response, coding, events, reporter } = handled;
        record.set_status(response.status().as_u16());
        response.map(|body| ResponseBody::of_handler(body, coding, events, reporter, permits, record))
    }

    /// Converts a response that the front door generated to the response for the client.
    fn finish_directly<H: Handler>(self, direct: DirectResponse) -> Response<ResponseBody<H>> {
        let Self { permits, mut record, id, .. } = self;
        let (response, memory) = direct.into_response(id);
        record.set_status(response.status().as_u16());
        response.map(|body| ResponseBody::of_front(body, memory, permits, record))
    }
}

#[cfg(test)]
mod tab_session_tests;
#[cfg(test)]
mod tab_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;
