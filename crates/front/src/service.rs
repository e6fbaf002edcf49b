//! One request: is there room, whose is it, who answers it, what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use isomer_observe::Log;
use isomer_runtime::{Failure, has_no_content, is_event_stream};
use isomer_telemetry::{AccessRecord, Event, RequestId};
use isomer_transport::{IpNetwork, Limiter};

use crate::compress::Compressor;
use crate::door::{Door, Entered, Entering, Refusal};
use crate::encoding::Accepts;
use crate::events::EventClock;
use crate::forwarded::{Ends, Origin};
use crate::host::{self, Addressee};
use crate::incoming::{LimitedBody, Verdict};
use crate::outgoing::{AccessLine, Admitted, Coded, OutgoingBody, Unfinished};
use crate::path;
use crate::problem::{
    ASTERISK, BODY_TOO_LARGE, CODING, FIELDS, HOST, INSECURE, METHOD, MISDIRECTED, NOT_FOUND, NOT_LOADED, OVERLOADED,
    Problem, SCHEME,
};
use crate::server::BODY_WINDOW_BYTES;
use crate::site::{Site, Target};
use crate::tls::Secured;
use crate::trace;
use crate::traffic::{InProgress, Traffic};

/// Answers whether the process takes requests: 200 with `ok`. Never reaches a guest.
pub(crate) const HEALTH_PATH: &str = "/.isomer/health";

/// What all connections share.
pub(crate) struct Service {
    pub(crate) door: Arc<dyn Door>,
    pub(crate) log: Log,
    pub(crate) requests: Limiter,
    pub(crate) headers_max: usize,
    pub(crate) body_pace: Duration,
    pub(crate) load_timeout: Duration,
}

impl Service {
    /// Answers a request. Never fails: what cannot be served is answered with a problem. `trusted` are proxies that are believed.
    pub(crate) async fn answer(
        &self,
        mut request: Request<Incoming>,
        connection: InProgress,
        trusted: &[IpNetwork],
    ) -> Response<OutgoingBody> {
        root(request.uri_mut());
        let is_head = request.method() == Method::HEAD;
        let is_http1 = request.version() < Version::HTTP_2;
        let (waits, is_coded) = (is_http1 && waits_to_send(&request), is_http1 && has_other_coding(request.headers()));
        let verdict = Verdict::default();
        let mut response = self.answer_in_full(request, connection, trusted, verdict.clone()).await;
        // A client that was not told to send its body may send it nevertheless, and what is coded may not end where it seems to.
        // Neither can be told from the next request.
        if is_coded || (waits && verdict.is_unread()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if has_no_content(response.status()) {
            without_content(response)
        } else if is_head {
            head_of(response)
        } else {
            response
        }
    }

    async fn answer_in_full(
        &self,
        mut request: Request<Incoming>,
        connection: InProgress,
        trusted: &[IpNetwork],
        verdict: Verdict,
    ) -> Response<OutgoingBody> {
        let (start, id) = (Instant::now(), RequestId::random());
        let mut access = self.log.wants_access().then(|| self.access_line(&request, id, start));
        let finish = |mut access: Option<Box<AccessLine>>, response: Response<Bytes>, admitted: Admitted| {
            if let Some(line) = &mut access {
                line.record.status = response.status().as_u16();
            }
            response.map(|body| OutgoingBody::own(body, admitted, access))
        };
        let mut admitted = Admitted { _permit: self.requests.try_acquire(), connection, place: None };
        if admitted._permit.is_none() {
            return finish(access, OVERLOADED.response(id), admitted);
        }
        if request.headers().len() > self.headers_max {
            return finish(access, FIELDS.response(id), admitted);
        }
        let origin = admitted.connection.ends().map(|ends| Origin::of(request.headers(), ends, trusted));
        if let Some(line) = &mut access {
            line.record.client = origin.as_ref().map(|origin| origin.client);
        }
        let addressee = match addressee(&request) {
            Ok(addressee) => addressee,
            Err(own) => return finish(access, own.response(id), admitted),
        };
        let scheme = match scheme(request.uri(), &admitted.connection, origin.as_ref()) {
            Ok(scheme) => scheme,
            Err(problem) => return finish(access, problem.response(id), admitted),
        };
        let (site, authority) = match self.enter(addressee, start, &mut admitted, access.as_deref_mut()).await {
            Ok(entered) => entered,
            Err(problem) => return finish(access, problem.response(id), admitted),
        };
        if let Some(line) = &mut access {
            if let Some(owner) = site.owner() {
                line.record.app = Some(owner.app.clone());
                line.app_log.clone_from(&owner.access_log);
            }
        }
        if let (Some(origin), Some(ends)) = (origin, admitted.connection.ends()) {
            origin.write(request.headers_mut(), ends, &scheme, &authority);
        }
        let (target, request) = match route(&site, scheme, authority, request, id) {
            Ok(routed) => routed,
            Err(problem) => return finish(access, problem.response(id), admitted),
        };
        if let Some(line) = &mut access {
            line.record.component = Some(target.component.clone());
        }
        let accepts = target.compress.then(|| Accepts::of(request.headers()));
        let is_head = request.method() == Method::HEAD;
        let answer = self.ask(target, request, id, start, verdict.clone()).await;
        match (verdict.problem(), answer) {
            (None, Ok(response)) => {
                if let Some(line) = &mut access {
                    line.record.status = response.status().as_u16();
                }
                let (mut head, body) = response.into_parts();
                let is_stream = !is_head && !has_no_content(head.status) && is_event_stream(&head.headers);
                let allowed = if is_stream { target.stream.max } else { target.deadline };
                let events = is_stream.then(|| EventClock::new(target.stream, start.into(), Instant::now().into()));
                let coded = accepts.and_then(|accepts| {
                    accepts.decide(head.status, &mut head.headers, |coding| match is_head {
                        true => Some(Coded::Unsent),
                        false => Compressor::reserve(coding, target.group.account()).map(Coded::By),
                    })
                });
                let unfinished = Unfinished {
                    id,
                    component: target.component.clone(),
                    deadline: start + allowed,
                    allowed,
                    verdict,
                    site: site.clone(),
                    log: self.log.clone(),
                };
                let coded = coded.unwrap_or(Coded::No);
                let body = OutgoingBody::guest(body, coded, events, unfinished, admitted, access);
                Response::from_parts(head, body)
            }
            (Some(problem), _) => {
                if let Some(log) = site.log() {
                    log.refused(&target.component, id, problem.status.as_u16(), problem.detail);
                }
                finish(access, problem.response(id), admitted)
            }
            (None, Err(failure)) => {
                site.events(&self.log).emit(Event::RequestFailed {
                    component: &target.component,
                    request: id,
                    reason: &failure,
                    backtrace: failure.backtrace(),
                    response_cut_off: false,
                });
                finish(access, Problem::from_failure(&failure).response(id), admitted)
            }
        }
    }

    /// Asks the door by the host's name, and waits for the site if it has to come from disk. Gives the authority that the request is for.
    async fn enter(
        &self,
        addressee: Addressee,
        start: Instant,
        admitted: &mut Admitted,
        access: Option<&mut AccessLine>,
    ) -> Result<(Arc<Site>, Authority), Problem> {
        let authority = match addressee {
            Addressee::Named(authority) => Some(authority),
            // A client that names its host in the handshake has named it.
            Addressee::Unnamed => {
                let named = admitted.connection.secured().and_then(Secured::named);
                named.map(|name| name.parse().map_err(|_| HOST)).transpose()?
            }
        };
        let (entered, authority) = match authority {
            Some(authority) => (self.enter_named(&authority, admitted, access)?, authority),
            None => {
                let authority = admitted.connection.ends().and_then(Ends::authority).ok_or(HOST)?;
                let entered = self.door.enter_unnamed().map_err(|refusal| match refusal {
                    Refusal::NoHost => HOST,
                    refusal => Problem::from_refusal(&refusal),
                });
                (entered?, authority)
            }
        };
        admitted.place = entered.place;
        let site = match entered.site {
            Entering::Ready(site) => site,
            Entering::Loading(loading) => {
                match tokio::time::timeout_at((start + self.load_timeout).into(), loading).await {
                    Ok(loaded) => loaded.map_err(|refusal| Problem::from_refusal(&refusal))?,
                    Err(_) => return Err(NOT_LOADED),
                }
            }
        };
        Ok((site, authority))
    }

    fn enter_named(
        &self,
        authority: &Authority,
        admitted: &Admitted,
        access: Option<&mut AccessLine>,
    ) -> Result<Entered, Problem> {
        let Some(host) = host::normal(authority) else { return Err(HOST) };
        if let Some(line) = access {
            line.record.host = Some(host.as_ref().to_owned());
        }
        if admitted.connection.secured().is_some_and(|secured| !secured.permits(&host)) {
            return Err(MISDIRECTED);
        }
        self.door.enter(&host).map_err(|refusal| Problem::from_refusal(&refusal))
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
            stream_allowed: target.stream.max,
            handler: target.handler,
            component: target.component.clone(),
            buffer_bytes: longest.min(BODY_WINDOW_BYTES),
        };
        // Not part of this future, which is copied several times on its way into the connection's.
        Box::pin(target.group.handle(request)).await
    }

    fn access_line(&self, request: &Request<Incoming>, id: RequestId, start: Instant) -> Box<AccessLine> {
        let record = AccessRecord {
            id,
            method: request.method().to_string(),
            target: request.uri().path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            status: 0,
            body_bytes: 0,
            took: Duration::ZERO,
            component: None,
            host: None,
            app: None,
            client: None,
            cut_off: None,
        };
        Box::new(AccessLine { record, start, log: self.log.clone(), app_log: None })
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

/// Returns the host that the request is for. What needs no app is answered here.
fn addressee(request: &Request<Incoming>) -> Result<Addressee, Own> {
    let refuse = |problem| Err(Own::Problem(problem));
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return refuse(METHOD);
    }
    if has_other_coding(request.headers()) {
        return refuse(CODING);
    }
    if path::normal(request.uri().path()) == HEALTH_PATH {
        return Err(Own::Healthy);
    }
    let Some(addressee) = host::addressee(request) else { return refuse(HOST) };
    match (request.uri().path(), request.method()) {
        ("*", &Method::OPTIONS) => Err(Own::Everything),
        ("*", _) => refuse(ASTERISK),
        _ => Ok(addressee),
    }
}

/// The scheme that a guest is told: the connection's, or the one that a trusted proxy says. A target that says `https` has to have come
/// over a connection that is secured, here or at that proxy (RFC 9110, section 7.4).
fn scheme(uri: &Uri, connection: &Traffic, origin: Option<&Origin>) -> Result<Scheme, Problem> {
    let said = uri.scheme();
    if said.is_some_and(|said| *said != Scheme::HTTP && *said != Scheme::HTTPS) {
        return Err(SCHEME);
    }
    let is_secured = connection.secured().is_some();
    if connection.ends().is_some_and(|ends| ends.is_trusted) {
        // How the client came to the proxy, which may have come to us in another way.
        if let Some(told) = origin.and_then(|origin| origin.scheme.clone()) {
            return Ok(told);
        }
        let is_https = is_secured || said == Some(&Scheme::HTTPS);
        return Ok(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
    }
    match said {
        _ if is_secured => Ok(Scheme::HTTPS),
        Some(said) if *said == Scheme::HTTPS => Err(INSECURE),
        _ => Ok(Scheme::HTTP),
    }
}

/// An absolute target may have no path (`http://shop.example?q=1`), which means the path `/` (RFC 9110, section 4.2.3).
fn root(uri: &mut Uri) {
    let Some(target) = uri.path_and_query().filter(|target| target.as_str().starts_with('?')) else { return };
    let Ok(rooted) = format!("/{}", target.as_str()).parse() else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(rooted);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Returns whether the client waits for `100 (Continue)` before it sends its body (RFC 9110, section 10.1.1). Hyper sends it on the first read.
fn waits_to_send(request: &Request<Incoming>) -> bool {
    let expect = request.headers().get(EXPECT);
    expect.is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !request.body().is_end_stream()
}

/// Returns whether the body has another transfer coding than one `chunked`. Hyper decodes only that, and looks at the last coding only.
fn has_other_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter().peekable();
    if codings.peek().is_none() {
        return false;
    }
    let codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    !codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) || codings.next().is_some()
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

/// A response whose status says that there is no content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5). Done here for both versions of HTTP,
/// since hyper sends the body over HTTP/2.
fn without_content(mut response: Response<OutgoingBody>) -> Response<OutgoingBody> {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    if response.status() == StatusCode::RESET_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
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
