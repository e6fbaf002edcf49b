//! One request: is there room, who answers it, what comes back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST as HOST_HEADER};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use isomer_observe::Log;
use isomer_observe::record::Access;
use isomer_runtime::{Failure, RequestId};

use crate::idle::Traffic;
use crate::incoming::{LimitedBody, Verdict};
use crate::outgoing::{AccessLine, Admitted, OutgoingBody};
use crate::problem::{ASTERISK, BODY_TOO_LARGE, HOST, METHOD, NOT_FOUND, OVERLOADED, Problem};
use crate::site::{Site, Target};
use crate::trace;

/// Answers whether the process takes requests: 200 with `ok`. Never reaches a guest.
pub(crate) const HEALTH_PATH: &str = "/.isomer/health";

/// What all connections share.
pub(crate) struct Service {
    pub(crate) site: Arc<ArcSwap<Site>>,
    pub(crate) log: Log,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) requests_max: usize,
    pub(crate) body_pace: Duration,
}

impl Service {
    /// Answers a request. Never fails: what cannot be served is answered with a problem.
    pub(crate) async fn answer(&self, request: Request<Incoming>, connection: Arc<Traffic>) -> Response<OutgoingBody> {
        let is_head = request.method() == Method::HEAD;
        let response = self.answer_in_full(request, connection).await;
        if is_head { head_of(response) } else { response }
    }

    async fn answer_in_full(&self, request: Request<Incoming>, connection: Arc<Traffic>) -> Response<OutgoingBody> {
        let (start, id) = (Instant::now(), trace::request_id());
        let mut access = self.log.wants_access().then(|| self.access_line(&request, id, start));
        let finish = |mut access: Option<Box<AccessLine>>, response: Response<Bytes>, admitted: Admitted| {
            if let Some(line) = &mut access {
                line.record.status = response.status().as_u16();
            }
            response.map(|body| OutgoingBody::own(body, admitted, access))
        };
        let admitted = match Admitted::enter(&self.requests, self.requests_max, connection) {
            Ok(admitted) => admitted,
            Err(refused) => return finish(access, OVERLOADED.response(id), refused),
        };
        let site = self.site.load_full();
        let (target, request) = match route(&site, request, id) {
            Ok(routed) => routed,
            Err(own) => return finish(access, own.response(id), admitted),
        };
        if let Some(line) = &mut access {
            line.record.component = Some(target.component.clone());
        }
        let verdict = Verdict::default();
        let answer = self.ask(target, request, id, start, verdict.clone()).await;
        match (verdict.problem(), answer) {
            (None, Ok(response)) => {
                if let Some(line) = &mut access {
                    line.record.status = response.status().as_u16();
                }
                response.map(|body| OutgoingBody::guest(body, start + target.deadline, admitted, access))
            }
            (Some(problem), _) => finish(access, problem.response(id), admitted),
            (None, Err(failure)) => {
                self.log.failed(&target.component, id, &failure);
                finish(access, Problem::from_failure(&failure).response(id), admitted)
            }
        }
    }

    async fn ask(
        &self,
        target: &Target,
        request: Request<Incoming>,
        id: RequestId,
        start: Instant,
        verdict: Verdict,
    ) -> Result<Response<isomer_runtime::ResponseBody>, Failure> {
        let (max, pace) = (target.body_bytes_max, self.body_pace);
        let http = request.map(|body| LimitedBody::new(body, max, pace, verdict).boxed_unsync());
        let request = isomer_runtime::Request {
            http,
            id,
            deadline: start + target.deadline,
            allowed: target.deadline,
            handler: target.handler,
            component: target.component.clone(),
        };
        target.group.handle(request).await
    }

    fn access_line(&self, request: &Request<Incoming>, id: RequestId, start: Instant) -> Box<AccessLine> {
        let record = Access {
            id,
            method: request.method().to_string(),
            target: request.uri().path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            status: 0,
            body_bytes: 0,
            took: Duration::ZERO,
            component: None,
        };
        Box::new(AccessLine { record, start, log: self.log.clone() })
    }
}

/// What needs no guest.
enum Own {
    Problem(Problem),
    /// The process takes requests.
    Healthy,
    /// `OPTIONS *`.
    Everything,
}

impl Own {
    fn response(self, id: RequestId) -> Response<Bytes> {
        match self {
            Self::Problem(problem) => problem.response(id),
            Self::Healthy => Response::new(Bytes::from_static(b"ok\n")),
            Self::Everything => options_of_everything(),
        }
    }
}

/// Finds who answers, and makes the request one that a guest understands: an absolute URI and a trace. What needs no guest
/// is answered here.
fn route(site: &Site, mut request: Request<Incoming>, id: RequestId) -> Result<(&Target, Request<Incoming>), Own> {
    let refuse = |problem| Err(Own::Problem(problem));
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return refuse(METHOD);
    }
    if request.uri().path() == HEALTH_PATH {
        return Err(Own::Healthy);
    }
    let Some(authority) = authority(&request) else { return refuse(HOST) };
    match (request.uri().path(), request.method()) {
        ("*", &Method::OPTIONS) => return Err(Own::Everything),
        ("*", _) => return refuse(ASTERISK),
        _ => {}
    }
    let Some(target) = site.find(request.uri().path()) else { return refuse(NOT_FOUND) };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > target.body_bytes_max) {
        return refuse(BODY_TOO_LARGE);
    }
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    let Ok(uri) = Uri::from_parts(uri) else { return refuse(HOST) };
    *request.uri_mut() = uri;
    let traceparent = trace::traceparent(request.headers().get("traceparent"), id);
    request.headers_mut().insert("traceparent", traceparent);
    Ok((target, request))
}

/// The host that the client meant: `:authority` or an absolute URI first (RFC 9112, section 3.2.2), then the one Host header, which
/// a request of HTTP/1.1 needs in any case (section 3.2).
fn authority(request: &Request<Incoming>) -> Option<Authority> {
    let mut hosts = request.headers().get_all(HOST_HEADER).iter();
    let (host, further) = (hosts.next(), hosts.next());
    if further.is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return None;
    }
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(host?.as_bytes()).ok()?,
    };
    (!authority.as_str().contains('@')).then_some(authority)
}

/// The answer to HEAD: as it would be to GET, without the body (RFC 9110, section 9.3.2). Done here for both versions of HTTP, since
/// hyper sends the body over HTTP/2.
fn head_of(mut response: Response<OutgoingBody>) -> Response<OutgoingBody> {
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes));
    }
    response.map(OutgoingBody::unsent)
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110, section 9.3.7).
fn options_of_everything() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, allow);
    response
}
