//! Answering a request: may it, what does it ask, do it, tell the audit log.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::StreamExt as _;
use http::{StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Incoming;
use isomer_api::{ApiProblem, ProblemKind, StoredToken};
use isomer_ids::{AppName, ReleaseDigest, TenantName, TokenId};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::admin::Admin;
use crate::allowance::{ACTIONS_OF_TENANTS_AT_ONCE_MAX, Allowances, Asks, RequestPlace, Turn};
use crate::audit::{AuditLog, Credential, Entry, Phase, Who, now_ms};
use crate::body;
use crate::caller::Caller;
use crate::connections::{Connection, Held};
use crate::given::{Given, GivenBody, Named, check_json, names_of};
use crate::guard::{self, Guard};
use crate::operations::{Answer, Input, Operation, QUESTION_BYTES_MAX, Work};
use crate::refusals::Refusals;

/// The most bytes that the audit log tells of what was asked for.
const DETAILS_BYTES_MAX: usize = 4 << 10;

/// The most characters that it tells of a problem.
const PROBLEM_CHARS_MAX: usize = 500;

/// A request as it comes.
pub(crate) type Request = http::Request<Incoming>;

/// An answer.
pub(crate) type Response = http::Response<HttpBody>;

type HttpBody = UnsyncBoxBody<Bytes, Infallible>;

/// Answers requests.
pub(crate) struct Service {
    pub(crate) operations: Vec<Operation>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) guard: Guard,
    pub(crate) audit: AuditLog,
    pub(crate) refusals: Refusals,
    /// What tenants' tokens take.
    pub(crate) allowances: Allowances,
    pub(crate) actions: AtomicU64,
    pub(crate) body_pace: Duration,
    /// A permit for each action that goes on.
    pub(crate) places: Arc<Semaphore>,
    /// Its sender is gone when the server stops: logs that are followed end then.
    pub(crate) running: watch::Receiver<()>,
}

/// The most actions that go on at once. Further ones wait.
pub(crate) const ACTIONS_MAX: usize = 64;

const _: () = assert!(ACTIONS_OF_TENANTS_AT_ONCE_MAX < ACTIONS_MAX, "the node's admins have places of their own");

/// How often it is looked whether the token with which a log is followed was revoked or has expired: else a log without lines would be
/// followed with it for ever, and count as a request of its tenant.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Who);

impl Service {
    /// Answers a request.
    pub(crate) async fn call(self: Arc<Self>, request: Request) -> Response {
        let path = request.uri().path();
        let mut others = false;
        for (index, operation) in self.operations.iter().enumerate() {
            let Some(named) = names_of(operation.path, path) else { continue };
            if operation.method == *request.method() {
                return self.answer(index, named, request).await;
            }
            others = true;
        }
        let shown: String = path.chars().take(200).collect();
        let problem = match others {
            true => {
                ApiProblem::new(ProblemKind::BadRequest, format!("`{}` cannot be done to `{shown}`", request.method()))
            }
            false => ApiProblem::new(ProblemKind::NotFound, format!("there is nothing at `{shown}`")),
        };
        let (_, checked) = self.guard.check(request.uri(), request.headers(), |id| kept(&*self.admin, id));
        refuse(&checked.err().unwrap_or(problem))
    }

    /// Whether the caller may ask for this now; with its place among its tenant's requests, if it is a tenant's.
    fn admit(&self, operation: &Operation, named: &Named, caller: &Caller) -> Result<Option<RequestPlace>, ApiProblem> {
        operation.rule.check(caller, named)?;
        match caller {
            Caller::Node => Ok(None),
            Caller::Tenant(token) => {
                let asks = match (operation.changes, &operation.input) {
                    (false, _) => Asks::Question,
                    (true, Input::Stream { .. }) => Asks::Upload,
                    (true, _) => Asks::Change,
                };
                self.allowances.enter(token, asks).map(Some)
            }
        }
    }

    async fn answer(self: Arc<Self>, index: usize, named: Option<Named>, request: Request) -> Response {
        let operation = &self.operations[index];
        let Peer(mut who) = request.extensions().get::<Peer>().cloned().unwrap_or(Peer(Who::default()));
        let (credential, checked) = self.guard.check(request.uri(), request.headers(), |id| kept(&*self.admin, id));
        who.token = credential;
        if let Ok(Caller::Tenant(token)) = &checked {
            who.tenant_token = Some(token.clone());
        }
        let caller = checked.as_ref().ok().cloned();
        let no_text = || ApiProblem::new(ProblemKind::BadRequest, "a name in the path is no text");
        let checked = checked.and_then(|caller| if named.is_some() { Ok(caller) } else { Err(no_text()) });
        let mut named = named.unwrap_or_default();
        let record = Record::new(&self, operation, &named, who);
        let checked = checked.and_then(|caller| {
            let place = self.admit(operation, &named, &caller)?;
            named.caller = Some(caller);
            Ok(place)
        });
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let (checked, in_progress) = match (checked, connection) {
            (Ok(place), Some(connection)) => match connection.accept().await {
                Ok(in_progress) => (Ok(place), Some(in_progress)),
                Err(problem) => (Err(problem), None),
            },
            (checked, _) => (checked, None),
        };
        // Until its answer is out, its connection is not closed for another.
        let held = |answer: Response| answer.map(|body| Held { body, _request: in_progress }.boxed_unsync());
        let work = match checked {
            Err(problem) => Err(problem),
            Ok(place) => match self.given_in_turn(operation, request, place.as_ref()).await {
                Err(problem) => Err(problem),
                // It may have been revoked or have expired while the body came.
                Ok(_) if !is_open(&*self.admin, caller.as_ref()) => Err(guard::unknown_token()),
                Ok((given, overflow, turn)) => {
                    let work = (operation.run)(self.admin.clone(), &named, given);
                    work.map(|work| (work, overflow, place.map(|place| (place, turn))))
                }
            },
        };
        let (work, overflow, place) = match work {
            Ok(work) => work,
            Err(problem) => {
                // Who looks for what is not theirs is told of, too.
                if operation.changes
                    || (problem.kind == ProblemKind::Forbidden && record.entry.who.tenant_token.is_some())
                {
                    record.refused(&problem).await;
                }
                return held(refuse_to(caller.as_ref(), problem));
            }
        };
        if !operation.changes {
            return held(match finished(work.answer).await {
                Ok(answer) => self.respond(answer, caller, place.map(|(place, _)| place)),
                Err(problem) => refuse_to(caller.as_ref(), self.admin.shown(problem)),
            });
        }
        // In a task of its own: a client that goes away does not cut off what was begun, nor what is told of it.
        let (places, admin, asker) = (self.places.clone(), self.admin.clone(), caller.clone());
        let done = tokio::spawn(async move {
            let of_tenants = match &place {
                Some((place, _)) => Some(place.action().await),
                None => None,
            };
            let action = places.acquire_owned().await.map_err(|_| stopping())?;
            if !is_open(&*admin, asker.as_ref()) {
                let problem = guard::unknown_token();
                record.refused(&problem).await;
                return Err(problem);
            }
            let done = record.tell(work, overflow).await;
            drop((action, of_tenants, place));
            done
        });
        held(match done.await {
            Ok(Ok(answer)) => self.respond(answer, caller, None),
            Ok(Err(problem)) => refuse_to(caller.as_ref(), self.admin.shown(problem)),
            Err(_) => refuse(&failed()),
        })
    }

    /// The query and the body. One about a release, of a tenant, waits for its turn, and has it until that is dropped.
    async fn given_in_turn(
        &self,
        operation: &Operation,
        request: Request,
        place: Option<&RequestPlace>,
    ) -> Result<(Given, body::Overflow, Turn), ApiProblem> {
        let turn = match (place, &operation.input) {
            (Some(place), Input::Json { bytes_max, .. }) if *bytes_max > QUESTION_BYTES_MAX => {
                let is_large = request.body().size_hint().upper().is_none_or(|bytes| bytes > QUESTION_BYTES_MAX);
                place.turn(is_large, !operation.changes).await
            }
            _ => Turn::default(),
        };
        let (given, overflow) = self.given(operation, request).await?;
        Ok((given, overflow, turn))
    }

    /// The query and the body, within their bounds.
    async fn given(&self, operation: &Operation, request: Request) -> Result<(Given, body::Overflow), ApiProblem> {
        let (parts, body) = request.into_parts();
        let overflow = body::Overflow::default();
        let body = match operation.input {
            Input::Nothing | Input::Query(_) => GivenBody::Nothing,
            Input::Json { bytes_max, .. } => {
                check_json(&parts.headers)?;
                GivenBody::Whole(body::read(body, bytes_max, self.body_pace).await?)
            }
            Input::Bytes { bytes_max, .. } => GivenBody::Whole(body::read(body, bytes_max, self.body_pace).await?),
            Input::Stream { bytes_max, .. } => {
                GivenBody::Stream(body::stream(body, bytes_max, self.body_pace, overflow.clone())?)
            }
        };
        Ok((Given { uri: parts.uri, body }, overflow))
    }

    /// `place` is held for as long as there are lines to come, which end when the caller's token opens nothing any more.
    fn respond(&self, answer: Answer, caller: Option<Caller>, place: Option<RequestPlace>) -> Response {
        match answer {
            Answer::Nothing => response(StatusCode::NO_CONTENT, None, Empty::new().boxed_unsync()),
            Answer::Json(value) => {
                let text = value.to_string();
                response(StatusCode::OK, Some("application/json"), Full::new(text.into()).boxed_unsync())
            }
            Answer::Lines(lines) => {
                let mut running = self.running.clone();
                let (admin, asker) = (self.admin.clone(), caller.clone());
                let ended = async move {
                    let closed = closed(admin, asker);
                    tokio::select! {
                        // Nothing is ever sent: it ends when its sender is dropped.
                        _ = running.changed() => {}
                        () = closed => {}
                    }
                };
                let admin = self.admin.clone();
                // A line that comes before that is noticed is not for this caller any more, either.
                let lines = lines.take_while(move |_| std::future::ready(is_open(&*admin, caller.as_ref())));
                let lines = lines.take_until(Box::pin(ended)).map(move |line| {
                    let _held = &place;
                    let mut text = serde_json::to_vec(&line).expect("a line is plain data");
                    text.push(b'\n');
                    Ok(Frame::data(Bytes::from(text)))
                });
                response(StatusCode::OK, Some("application/x-ndjson"), StreamBody::new(lines).boxed_unsync())
            }
        }
    }
}

/// What is told of one request.
struct Record {
    service: Arc<Service>,
    entry: Entry,
}

impl Record {
    fn new(service: &Arc<Service>, operation: &Operation, named: &Named, who: Who) -> Self {
        let get = |name: &str| named.found(name);
        // Names that are none are not told of: they may be anything.
        let object = get("digest").filter(|_| named.digest().is_ok());
        let object = object.or(get("secret").filter(|_| named.secret().is_ok()));
        let object = object.or(get("token").filter(|_| named.token().is_ok()));
        let entry = Entry {
            at_ms: now_ms(),
            action_id: if operation.changes { service.actions.fetch_add(1, Ordering::Relaxed) } else { 0 },
            phase: Phase::Begin,
            who,
            action: operation.id,
            tenant: get("tenant").and_then(|name| name.parse::<TenantName>().ok()),
            app: get("app").and_then(|name| name.parse::<AppName>().ok()),
            object: object.map(ToOwned::to_owned),
            details: Value::Null,
            status: None,
            problem: None,
            revision: None,
            untold: None,
        };
        Self { service: service.clone(), entry }
    }

    /// It is not begun.
    async fn refused(mut self, problem: &ApiProblem) {
        if self.entry.who.token != Credential::Valid {
            // Anybody can send these, or any tenant: they must not fill the disk.
            let told = match &self.entry.who.tenant_token {
                Some(token) => self.service.allowances.tell(&token.tenant),
                None => self.service.refusals.tell(),
            };
            let Some(untold) = told else { return };
            self.entry.untold = Some(untold).filter(|untold| *untold > 0);
        }
        self.entry.phase = Phase::Refused;
        self.ended(problem);
        self.write().await;
    }

    /// Does it, and tells of its begin and its end.
    async fn tell(mut self, work: Work, overflow: body::Overflow) -> Result<Answer, ApiProblem> {
        if work.details.to_string().len() <= DETAILS_BYTES_MAX {
            self.entry.details = work.details;
        }
        if let Err(error) = self.service.audit.write(&self.entry).await {
            tracing::error!(%error, cause = %error.source, "an admin's action is not begun");
            let problem = ApiProblem::new(ProblemKind::Failed, "nothing was done: the audit log cannot be written");
            return Err(problem.detail(format!("{error}: {}", error.source)));
        }
        let done = finished(work.answer).await;
        let done = done.map_err(|problem| overflow.problem().unwrap_or(problem));
        self.entry.phase = Phase::End;
        self.entry.at_ms = now_ms();
        self.entry.details = Value::Null;
        match &done {
            Ok(Answer::Json(value)) => {
                self.entry.status = Some(200);
                self.entry.revision = value["revision"].as_str().and_then(|text| text.parse::<ReleaseDigest>().ok());
            }
            Ok(_) => self.entry.status = Some(204),
            Err(problem) => self.ended(problem),
        }
        self.write().await;
        done
    }

    fn ended(&mut self, problem: &ApiProblem) {
        self.entry.status = Some(problem.kind.status());
        self.entry.problem = Some(problem.title.chars().take(PROBLEM_CHARS_MAX).collect());
    }

    async fn write(&self) {
        if let Err(error) = self.service.audit.write(&self.entry).await {
            tracing::error!(%error, cause = %error.source, action = self.entry.action, "the audit log misses a line");
        }
    }
}

/// What was answered. A panic of the node is its failure, not the end of what is told of it.
async fn finished(answer: BoxFuture<'static, Result<Answer, ApiProblem>>) -> Result<Answer, ApiProblem> {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| Err(failed()))
}

/// What is kept of a tenant's token, unless it has expired.
fn kept(admin: &dyn Admin, id: &TokenId) -> Option<StoredToken> {
    admin.kept_token(id).filter(|kept| !kept.info.is_expired_at(now_ms() / 1000))
}

/// Returns whether what the caller showed still opens something: a tenant's token may have been revoked or have expired since.
fn is_open(admin: &dyn Admin, caller: Option<&Caller>) -> bool {
    match caller {
        Some(Caller::Node) => true,
        Some(Caller::Tenant(token)) => kept(admin, &token.id).is_some(),
        None => false,
    }
}

/// Resolves when what the caller showed opens nothing any more.
async fn closed(admin: Arc<dyn Admin>, caller: Option<Caller>) {
    if matches!(caller, Some(Caller::Node)) {
        return std::future::pending().await;
    }
    while is_open(&*admin, caller.as_ref()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn stopping() -> ApiProblem {
    ApiProblem::new(ProblemKind::Unavailable, "the node stops")
}

fn failed() -> ApiProblem {
    ApiProblem::new(ProblemKind::Failed, "the node failed while it did this").hint("its log says more")
}

/// Refuses in words for this caller.
fn refuse_to(caller: Option<&Caller>, problem: ApiProblem) -> Response {
    match caller {
        Some(caller) => refuse(&caller.told(problem)),
        None => refuse(&problem),
    }
}

fn refuse(problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = serde_json::to_vec(problem).expect("a problem is plain data");
    let mut response = response(status, Some("application/problem+json"), Full::new(text.into()).boxed_unsync());
    if problem.kind == ProblemKind::Unauthorized {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn response(status: StatusCode, media_type: Option<&'static str>, body: HttpBody) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(media_type) = media_type {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    }
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
