//! One request: is there room, whose is it, who answers it, what comes back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use isomer_observe::Log;
use isomer_observe::record::Access;
use isomer_runtime::{Failure, RequestId};

use crate::door::{Door, Entering};
use crate::host;
use crate::incoming::{LimitedBody, Verdict};
use crate::outgoing::{AccessLine, Admitted, OutgoingBody, Unfinished};
use crate::problem::{ASTERISK, BODY_TOO_LARGE, HOST, METHOD, MISDIRECTED, NOT_FOUND, NOT_LOADED, OVERLOADED, Problem};
use crate::server::BODY_WINDOW_BYTES;
use crate::site::{Site, Target};
use crate::trace;
use crate::traffic::InProgress;

/// Answers whether the process takes requests: 200 with `ok`. Never reaches a guest.
pub(crate) const HEALTH_PATH: &str = "/.isomer/health";

/// What all connections share.
pub(crate) struct Service {
    pub(crate) door: Arc<dyn Door>,
    pub(crate) log: Log,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) requests_max: usize,
    pub(crate) body_pace: Duration,
    pub(crate) load_timeout: Duration,
}

impl Service {
    /// Answers a request. Never fails: what cannot be served is answered with a problem.
    pub(crate) async fn answer(&self, request: Request<Incoming>, connection: InProgress) -> Response<OutgoingBody> {
        let is_head = request.method() == Method::HEAD;
        let response = self.answer_in_full(request, connection).await;
        if is_head { head_of(response) } else { response }
    }

    async fn answer_in_full(&self, request: Request<Incoming>, connection: InProgress) -> Response<OutgoingBody> {
        let (start, id) = (Instant::now(), trace::request_id());
        let mut access = self.log.wants_access().then(|| self.access_line(&request, id, start));
        let finish = |mut access: Option<Box<AccessLine>>, response: Response<Bytes>, admitted: Admitted| {
            if let Some(line) = &mut access {
                line.record.status = response.status().as_u16();
            }
            response.map(|body| OutgoingBody::own(body, admitted, access))
        };
        let mut admitted = match Admitted::enter(&self.requests, self.requests_max, connection) {
            Ok(admitted) => admitted,
            Err(refused) => return finish(access, OVERLOADED.response(id), refused),
        };
        let authority = match authority(&request) {
            Ok(authority) => authority,
            Err(own) => return finish(access, own.response(id), admitted),
        };
        let site = match self.enter(&authority, start, &mut admitted, access.as_deref_mut()).await {
            Ok(site) => site,
            Err(problem) => return finish(access, problem.response(id), admitted),
        };
        if let Some(line) = &mut access {
            line.record.owner = site.owner().cloned();
        }
        let scheme = if admitted.connection.secured().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let (target, request) = match route(&site, scheme, authority, request, id) {
            Ok(routed) => routed,
            Err(problem) => return finish(access, problem.response(id), admitted),
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
                let unfinished = Unfinished {
                    id,
                    component: target.component.clone(),
                    deadline: start + target.deadline,
                    allowed: target.deadline,
                    site: site.clone(),
                    log: self.log.clone(),
                };
                response.map(|body| OutgoingBody::guest(body, unfinished, admitted, access))
            }
            (Some(problem), _) => {
                if let Some(log) = site.log() {
                    log.refused(&target.component, id, problem.status.as_u16(), problem.detail);
                }
                finish(access, problem.response(id), admitted)
            }
            (None, Err(failure)) => {
                match site.log() {
                    Some(log) => log.failed(&target.component, id, &failure),
                    None => self.log.failed(&target.component, id, &failure),
                }
                finish(access, Problem::from_failure(&failure).response(id), admitted)
            }
        }
    }

    /// Asks the door by the host's name, and waits for the site if it has to come from disk.
    async fn enter(
        &self,
        authority: &Authority,
        start: Instant,
        admitted: &mut Admitted,
        access: Option<&mut AccessLine>,
    ) -> Result<Arc<Site>, Problem> {
        let site = {
            let Some(host) = host::normal(authority) else { return Err(HOST) };
            if let Some(line) = access {
                line.record.host = Some(host.as_ref().to_owned());
            }
            if admitted.connection.secured().is_some_and(|secured| !secured.permits(&host)) {
                return Err(MISDIRECTED);
            }
            let entered = self.door.enter(&host).map_err(|refusal| Problem::from_refusal(&refusal))?;
            admitted.place = Some(entered.place);
            entered.site
        };
        match site {
            Entering::Ready(site) => Ok(site),
            Entering::Loading(loading) => {
                match tokio::time::timeout_at((start + self.load_timeout).into(), loading).await {
                    Ok(loaded) => loaded.map_err(|refusal| Problem::from_refusal(&refusal)),
                    Err(_) => Err(NOT_LOADED),
                }
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
        let longest = usize::try_from(request.body().size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let http = request.map(|body| LimitedBody::new(body, max, pace, verdict).boxed_unsync());
        let request = isomer_runtime::Request {
            http,
            id,
            deadline: start + target.deadline,
            allowed: target.deadline,
            handler: target.handler,
            component: target.component.clone(),
            buffer_bytes: longest.min(BODY_WINDOW_BYTES),
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
            host: None,
            owner: None,
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

/// The authority that the request is for. What needs no app is answered here.
fn authority(request: &Request<Incoming>) -> Result<Authority, Own> {
    let refuse = |problem| Err(Own::Problem(problem));
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return refuse(METHOD);
    }
    if request.uri().path() == HEALTH_PATH {
        return Err(Own::Healthy);
    }
    let Some(authority) = host::authority(request) else { return refuse(HOST) };
    match (request.uri().path(), request.method()) {
        ("*", &Method::OPTIONS) => Err(Own::Everything),
        ("*", _) => refuse(ASTERISK),
        _ => Ok(authority),
    }
}

/// Finds who answers, and makes the request one that a guest understands: an absolute URI and a trace.
fn route(
    site: &Site,
    scheme: Scheme,
    authority: Authority,
    mut request: Request<Incoming>,
    id: RequestId,
) -> Result<(&Target, Request<Incoming>), Problem> {
    let Some(target) = site.find(request.uri().path()) else { return Err(NOT_FOUND) };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > target.body_bytes_max) {
        return Err(BODY_TOO_LARGE);
    }
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority);
    let Ok(uri) = Uri::from_parts(uri) else { return Err(HOST) };
    *request.uri_mut() = uri;
    let traceparent = trace::traceparent(request.headers().get("traceparent"), id);
    request.headers_mut().insert("traceparent", traceparent);
    Ok((target, request))
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
