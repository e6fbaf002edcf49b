//! Serves the requests of tabs, whose paths begin with `/_isomer/`: files, sessions, calls, log lines and cookies.
//!
//! The decisions are in `isomer-gateway`. This file reads the bodies, charges them to the app's account, calls the
//! callee, and creates the responses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use isomer_gateway::request_origin::{check_origin, has_content_type};
use isomer_gateway::tab_cookies::COOKIES_BYTES_MAX;
use isomer_gateway::tab_logs::{LOG_BATCH_BYTES_MAX, parse_logs, stored_bytes};
use isomer_gateway::withdrawn_worker::withdrawn_worker;
use isomer_gateway::{
    BrowserRevision, CALL_TYPE, GatewayClient, Identity, NoEndpoint, RequestTime, SiteGateway, TabEndpoint,
    VisitorSession, WrongIdentity, public_failure,
};
use isomer_ids::PlanDigest;
use isomer_telemetry::{Event, EventSink, GuestRecord, RecordSource, RequestId, SpanContext};
use isomer_wire::frame::{FrameHead as _, TRACEPARENT_BYTES_MAX};
use isomer_wire::{Call, CallError, CallFailure, CallHead, CallResult, FrameReader, ReplyHead};

use crate::handler::Handler;
use crate::problem::{
    BODY_TOO_SLOW, FOREIGN, GONE, INVALID_BODY, NO_SESSION, NOT_FOUND, OUT_OF_MEMORY, Problem, TAB_METHOD, UNSUPPORTED,
};
use crate::request_body::{BodyOutcome, BodySource, RequestBody};
use crate::response_body::ChargedMemory;
use crate::site::RouteTarget;

/// The field in which a tab states the plan digest of its revision.
const REVISION: HeaderName = HeaderName::from_static("isomer-revision");

/// The field that browsers check before they use a response in a page of another origin.
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// The host that the client used, which the front door writes into each request.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The maximum time for reading the body of a request of a tab.
const READ_MAX: Duration = Duration::from_secs(30);

/// The maximum size of a call's head in bytes.
const CALL_HEAD_BYTES_MAX: usize = CallHead::FIXED_BYTES + TRACEPARENT_BYTES_MAX;

/// A request of a tab, with what the earlier layers have found out about it.
pub(crate) struct TabRequest<'a, H: Handler> {
    pub(crate) gateway: &'a SiteGateway,
    /// The limits of the request, and the account that is charged.
    pub(crate) target: &'a RouteTarget<H>,
    pub(crate) client: GatewayClient,
    pub(crate) authority: Authority,
    pub(crate) id: RequestId,
    pub(crate) start: Instant,
    pub(crate) span: SpanContext,
    pub(crate) body_timeout: Duration,
    /// The sink of the app's events.
    pub(crate) events: &'a dyn EventSink,
}

/// The response to a request of a tab.
pub(crate) struct TabResponse {
    pub(crate) response: Response<Bytes>,
    /// The memory that is charged for the response until it is sent.
    pub(crate) memory: Option<Box<dyn ChargedMemory>>,
    /// The reason why a call failed, for the span of the request.
    pub(crate) failure: Option<CallFailure>,
}

impl TabResponse {
    fn new(response: Response<Bytes>) -> Self {
        Self { response, memory: None, failure: None }
    }
}

impl<H: Handler> TabRequest<'_, H> {
    /// Responds to a request for `endpoint`.
    pub(crate) async fn respond(
        &self,
        endpoint: TabEndpoint<'_>,
        request: Request<BodySource>,
        outcome: &BodyOutcome,
    ) -> Result<TabResponse, Problem> {
        let (head, body) = request.into_parts();
        let time = RequestTime::now();
        self.gateway.begin_service(time.instant);
        match endpoint {
            TabEndpoint::Worker => {
                self.admit(None, endpoint, time)?;
                let worker = self.gateway.revision.files().map(|files| files.worker(&head.headers));
                let withdrawn = || withdrawn_worker(&head.method, endpoint.pattern(), &head.headers);
                return worker.or_else(withdrawn).map(TabResponse::new).ok_or(NOT_FOUND);
            }
            TabEndpoint::File { digest, name } => {
                self.admit(None, endpoint, time)?;
                let revision = self.gateway.revision_of_files(digest).ok_or(NOT_FOUND)?;
                let file = revision.files().and_then(|files| files.file(digest, name, &head.headers));
                return file.map(TabResponse::new).ok_or(NOT_FOUND);
            }
            TabEndpoint::Session | TabEndpoint::Call | TabEndpoint::Logs | TabEndpoint::Cookies => {}
        }
        check_origin(&head.headers, &self.client.scheme, &self.authority).map_err(|_| FOREIGN)?;
        if !endpoint.content_type().is_some_and(|kind| has_content_type(&head.headers, kind)) {
            return Err(UNSUPPORTED);
        }
        let known = self.gateway.app.session(&head.headers, &self.client.scheme, time);
        self.admit(known.as_ref().map(VisitorSession::identity), endpoint, time)?;
        let body = |bytes_max: usize| RequestBody::new(body, bytes_max as u64, self.body_timeout, outcome.clone());
        let announced = body_bytes(&head.headers);
        let revision = match endpoint {
            TabEndpoint::Call => self.revision(&head.headers, time)?,
            // A program that is no tab may leave out the revision.
            _ if !head.headers.contains_key(REVISION) => self.gateway.revision.clone(),
            _ => self.revision(&head.headers, time)?,
        };
        let session = match (known, endpoint) {
            (Some(session), _) => session,
            (None, TabEndpoint::Session) => {
                let started = self.gateway.app.start_session(&self.client, time);
                let session = started.ok_or_else(|| Problem::too_many_from_tab(Duration::from_secs(1)))?;
                let mut response = TabResponse::new(report(revision.session_report(session.identity())));
                let line = self.gateway.app.set_cookie(&session, &self.client.scheme);
                response.response.headers_mut().append(SET_COOKIE, line);
                return Ok(response);
            }
            (None, _) => return Err(NO_SESSION),
        };
        let mut response = match endpoint {
            TabEndpoint::Call => {
                let body = body(revision.image_bytes_max() + CALL_HEAD_BYTES_MAX);
                self.call(&revision, &session, (body, announced), outcome).await?
            }
            TabEndpoint::Logs => {
                let (bytes, _memory) = self.collect(body(LOG_BATCH_BYTES_MAX), outcome).await?;
                self.log(&revision, &session, &bytes, time)?
            }
            TabEndpoint::Cookies => {
                let (bytes, _memory) = self.collect(body(COOKIES_BYTES_MAX), outcome).await?;
                self.set_cookies(&revision, &bytes, &session, time)?
            }
            _ => TabResponse::new(report(revision.session_report(session.identity()))),
        };
        // The worker answers pages, so these may be the only requests of a visitor who returns every day.
        if let Some(renewed) = self.gateway.app.renewed(&session, time) {
            let line = self.gateway.app.set_cookie(&renewed, &self.client.scheme);
            response.response.headers_mut().append(SET_COOKIE, line);
        }
        Ok(response)
    }

    /// Takes the tokens of a request from the rates of its session and of its network.
    fn admit(&self, identity: Option<Identity>, endpoint: TabEndpoint<'_>, time: RequestTime) -> Result<(), Problem> {
        let admitted = self.gateway.app.admit(identity, &self.client, endpoint.tokens(), time);
        admitted.map_err(Problem::too_many_from_tab)
    }

    /// Returns the revision that a tab was loaded from.
    fn revision(&self, headers: &HeaderMap, time: RequestTime) -> Result<Arc<BrowserRevision>, Problem> {
        let digits = headers.get(REVISION).and_then(|value| value.to_str().ok()).filter(|digits| digits.len() == 32);
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let plan = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(INVALID_BODY)?;
        self.gateway.revision(PlanDigest(plan.to_be_bytes()), time.instant).ok_or(GONE)
    }

    /// Reads a call, runs it, and returns its reply.
    async fn call(
        &self,
        revision: &BrowserRevision,
        session: &VisitorSession,
        body: (RequestBody, Option<usize>),
        outcome: &BodyOutcome,
    ) -> Result<TabResponse, Problem> {
        let result = match self.read_call(revision, session, body, outcome).await? {
            Ok(call) => {
                let deadline = call.context.deadline;
                match tokio::time::timeout_at(deadline.into(), revision.callee().call(call)).await {
                    Ok(result) => result,
                    Err(_) => Err(CallFailure::deadline("the callee did not return before the deadline")),
                }
            }
            Err(failure) => Err(failure),
        };
        Ok(self.reply(result))
    }

    /// Reads a call and checks it. `body` contains the announced size, if the client states it. The inner error is sent
    /// to the tab as a reply.
    async fn read_call(
        &self,
        revision: &BrowserRevision,
        session: &VisitorSession,
        (mut body, announced): (RequestBody, Option<usize>),
        outcome: &BodyOutcome,
    ) -> Result<Result<Call, CallFailure>, Problem> {
        // The reader allocates the whole image when it has read the head. A frame that states a larger image than the
        // request announces is refused.
        let image_bytes = announced.unwrap_or(usize::MAX).min(revision.image_bytes_max());
        let memory = self.target.handler.charge_memory(CALL_HEAD_BYTES_MAX + image_bytes).ok_or(OUT_OF_MEMORY)?;
        let mut reader = FrameReader::<CallHead>::new(image_bytes);
        let mut read_until = self.start + READ_MAX;
        let mut arrived = None;
        loop {
            let piece = match self.next(&mut body, read_until, outcome).await? {
                Some(piece) => piece,
                None => break,
            };
            if let Err(error) = reader.push(&piece) {
                return Ok(Err(malformed(error)));
            }
            if let (Some(head), None) = (reader.head(), arrived) {
                // A call that will be refused is not read to its end.
                if let Err(failure) = revision.functions().find(head) {
                    return Ok(Err(failure));
                }
                let now = Instant::now();
                arrived = Some(now);
                read_until = read_until.min(now.checked_add(head.remaining).unwrap_or(read_until));
            }
        }
        let (head, image) = match reader.finish() {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(malformed(error))),
        };
        // The callee charges the image itself.
        drop(memory);
        let function = match revision.functions().find(&head) {
            Ok(function) => function,
            Err(failure) => return Ok(Err(failure)),
        };
        match function.check_identity(&image, session.identity()) {
            Ok(()) => {}
            Err(WrongIdentity::OtherSession) => return Err(NO_SESSION),
            Err(invalid @ WrongIdentity::InvalidImage) => return Ok(Err(CallFailure::refused(invalid.to_string()))),
        }
        let arrived = arrived.unwrap_or(self.start);
        let deadline = function.deadline(head.remaining, arrived, self.start + self.target.deadline);
        let mut call = head.into_call(image, arrived);
        // The id and the trace in the frame are those of the tab. The call belongs to this request.
        call.context.request = self.id.get();
        call.context.traceparent = std::str::from_utf8(&self.span.trace().to_traceparent()).ok().map(Arc::from);
        call.context.deadline = deadline;
        Ok(Ok(call))
    }

    /// Returns the reply to a call.
    fn reply(&self, result: CallResult) -> TabResponse {
        let frame_bytes = ReplyHead::FIXED_BYTES + result.as_ref().map_or(REASON_BYTES_MAX, Vec::len);
        let memory = self.target.handler.charge_memory(frame_bytes);
        // The call has run, so the failure must not state that it has not: the tab would repeat it.
        let no_memory = || CallFailure::Lost {
            error: CallError::Overloaded,
            reason: "no memory for the result".to_owned(),
            not_run: false,
        };
        let result = if memory.is_none() && result.is_ok() { Err(no_memory()) } else { result };
        let failure = result.as_ref().err().cloned();
        let (head, body) = ReplyHead::of(result.map_err(|failure| public_failure(&failure)));
        let mut frame = Vec::with_capacity(ReplyHead::FIXED_BYTES + body.len());
        frame.extend_from_slice(&head.encode());
        frame.extend_from_slice(&body);
        let response = protected(Response::new(frame.into()), CALL_TYPE);
        TabResponse { response, memory: memory.map(|memory| Box::new(memory) as Box<dyn ChargedMemory>), failure }
    }

    /// Emits the lines of a batch. They are marked as lines of a tab: a visitor can send any line.
    fn log(
        &self,
        revision: &BrowserRevision,
        session: &VisitorSession,
        bytes: &[u8],
        time: RequestTime,
    ) -> Result<TabResponse, Problem> {
        let lines = parse_logs(bytes, |name| revision.has_component(name)).map_err(|_| INVALID_BODY)?;
        let admitted = self.gateway.app.admit_logs(session.identity(), &self.client, stored_bytes(&lines), time);
        admitted.map_err(Problem::too_many_from_tab)?;
        for line in &lines {
            self.events.emit(Event::Record(GuestRecord {
                component: &line.component,
                source: RecordSource::Tab,
                request: Some(self.id),
                trace: Some(self.span.trace()),
                severity: line.severity(),
                time_ns: None,
                message: &line.message,
                attributes: &[],
            }));
        }
        Ok(TabResponse::new(empty()))
    }

    /// Sets the cookies that a tab cannot set. If the app's cookie changes, starts another session and returns its
    /// properties.
    fn set_cookies(
        &self,
        revision: &BrowserRevision,
        bytes: &[u8],
        session: &VisitorSession,
        time: RequestTime,
    ) -> Result<TabResponse, Problem> {
        let cookies = revision.parse_cookies(bytes, session.identity()).map_err(|_| INVALID_BODY)?;
        let mut response = TabResponse::new(empty());
        if cookies.change.is_some() {
            let (line, identity) = self.gateway.rotated(session, &self.client, time);
            if let Some(identity) = identity {
                response.response = report(revision.session_report(identity));
            }
            response.response.headers_mut().append(SET_COOKIE, line);
        }
        for line in cookies.lines {
            response.response.headers_mut().append(SET_COOKIE, line);
        }
        Ok(response)
    }

    /// Reads a whole body, and charges it to the account while it is read.
    async fn collect(
        &self,
        mut body: RequestBody,
        outcome: &BodyOutcome,
    ) -> Result<(Vec<u8>, Vec<H::Memory>), Problem> {
        let (mut bytes, mut charges) = (Vec::new(), Vec::new());
        let mut charged = 0;
        while let Some(piece) = self.next(&mut body, self.start + READ_MAX, outcome).await? {
            let needed = bytes.len() + piece.len();
            if needed > charged {
                // Charges at least as many bytes again, so that a body of many small pieces needs few charges.
                let more = (needed - charged).max(charged).max(CHARGE_BYTES_MIN);
                charges.push(self.target.handler.charge_memory(more).ok_or(OUT_OF_MEMORY)?);
                charged += more;
                bytes.reserve_exact(charged - bytes.len());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, charges))
    }

    /// Returns the next piece of a body, or `None` at its end.
    async fn next(
        &self,
        body: &mut RequestBody,
        until: Instant,
        outcome: &BodyOutcome,
    ) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout_at(until.into(), body.frame()).await.map_err(|_| BODY_TOO_SLOW)?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(outcome.problem().unwrap_or(INVALID_BODY)),
                // Trailers are ignored.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The minimum number of bytes of a body that are charged at once.
const CHARGE_BYTES_MIN: usize = 4 << 10;

/// The maximum length in bytes of the reason in a reply to a failed call: see [`public_failure`].
const REASON_BYTES_MAX: usize = 64;

/// Returns the size of a request's body that the client announces.
fn body_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the reason why a request has no endpoint as a problem.
pub(crate) fn no_endpoint(reason: NoEndpoint) -> Problem {
    match reason {
        NoEndpoint::Path => NOT_FOUND,
        NoEndpoint::Method => TAB_METHOD,
    }
}

/// Returns the response to a browser that looks for a new version of a service worker, for a host without files for tabs.
pub(crate) fn withdrawn<B>(request: &Request<B>, path: &str) -> Option<Box<TabResponse>> {
    withdrawn_worker(request.method(), path, request.headers()).map(|response| Box::new(TabResponse::new(response)))
}

/// Returns the authority that the client's browser used. `headers` are those of a request to which the front door has
/// written the forwarding fields, if `has_forwarded` is true.
pub(crate) fn browser_authority(headers: &HeaderMap, has_forwarded: bool, requested: &Authority) -> Authority {
    let forwarded = headers.get(FORWARDED_HOST).filter(|_| has_forwarded);
    let forwarded = forwarded.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    forwarded.unwrap_or_else(|| requested.clone())
}

fn malformed(error: isomer_wire::FrameError) -> CallFailure {
    CallFailure::refused(format!("malformed request frame: {error}"))
}

fn report(json: Bytes) -> Response<Bytes> {
    protected(Response::new(json), "application/json")
}

fn empty() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sets the content type, and the fields that prevent browsers from storing the response, from using it in pages of
/// other origins, and from running anything in it.
fn protected(mut response: Response<Bytes>, content_type: &'static str) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response
}
