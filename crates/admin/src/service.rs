//! Responds to requests: authenticates the client, checks the arguments, runs the operation, and writes the audit log.

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
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use isomer_api::{ApiProblem, ProblemKind, StoredToken, routes};
use isomer_ids::{AppName, TenantName, TokenId};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::app_api::{AppApi, MetricsText};
use crate::arguments::{ArgumentBody, Arguments, PathNames, check_json, names_of};
use crate::audit::{AuditEntry, AuditError, AuditLog, Credential, Phase, Requester, as_action, now_ms};
use crate::body;
use crate::caller::Caller;
use crate::connection_registry::ConnectionPermit;
use crate::dashboard_access::{self, AdminDashboard};
use crate::guard::{self, Guard};
use crate::held_body::HeldBody;
use crate::operation::{Input, JSON_BYTES_MAX, Operation, OperationResult, PreparedOperation};
use crate::refusals::Refusals;
use crate::response::{Request, Response, refuse, refuse_to, response};
use crate::tenant_limits::{
    ACTIONS_OF_TENANTS_AT_ONCE_MAX, ExclusivePermits, RequestKind, RequestPermit, TenantLimits,
};

/// The maximum number of bytes of an operation's arguments in the audit log. Longer arguments are left out.
const DETAILS_BYTES_MAX: usize = 4 << 10;

/// The maximum number of characters of a problem in the audit log.
const PROBLEM_CHARS_MAX: usize = 500;

/// The service that responds to all requests of an admin API.
pub(crate) struct Service<A: ?Sized> {
    pub(crate) operations: Vec<Operation<A>>,
    /// The OpenAPI document of the operations.
    pub(crate) document: Bytes,
    pub(crate) admin: Arc<A>,
    pub(crate) guard: Guard,
    /// The audit log; `None` if no operation changes anything.
    pub(crate) audit: Option<AuditLog>,
    pub(crate) dashboard: Arc<AdminDashboard>,
    pub(crate) refusals: Refusals,
    /// The limits on requests with tenants' tokens.
    pub(crate) tenant_limits: TenantLimits,
    pub(crate) actions: AtomicU64,
    pub(crate) body_timeout: Duration,
    /// The permits for running actions. Each running action holds one.
    pub(crate) action_permits: Arc<Semaphore>,
    /// A channel that is closed when the server shuts down. Responses that follow a log then end.
    pub(crate) running: watch::Receiver<()>,
}

/// The maximum number of actions that run at the same time. Further actions wait for a permit.
pub(crate) const ACTIONS_MAX: usize = 64;

const _: () = assert!(ACTIONS_OF_TENANTS_AT_ONCE_MAX < ACTIONS_MAX, "permits are reserved for the node's admins");

/// The interval at which the server checks, for a response that follows a log, whether the caller's token was revoked
/// or has expired. Without this check, a response without new lines would never end, and would use one of the tenant's
/// permits for requests.
const TOKEN_CHECK_EVERY: Duration = Duration::from_secs(1);

/// The client of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPeer(pub(crate) Requester);

impl<A: AppApi + ?Sized> Service<A> {
    /// Finds the operation for a request, and responds to the request.
    pub(crate) async fn call(self: Arc<Self>, request: Request) -> Response {
        if let Some(response) = dashboard_access::respond(&self.dashboard, &self.guard, &request) {
            return response;
        }
        let path = request.uri().path();
        let mut has_path = false;
        for path in [Some(path.to_owned()), self.full_path(path)].into_iter().flatten() {
            for (index, operation) in self.operations.iter().enumerate() {
                let Some(named) = names_of(operation.path, &path) else { continue };
                if operation.method == *request.method() {
                    return self.call_operation(index, named, request).await;
                }
                has_path = true;
            }
        }
        let shown: String = path.chars().take(200).collect();
        let problem = match has_path {
            true => {
                ApiProblem::new(ProblemKind::BadRequest, format!("`{shown}` does not support `{}`", request.method()))
            }
            false => ApiProblem::new(ProblemKind::NotFound, format!("the admin API has no path `{shown}`")),
        };
        let (_, checked) = self.authenticate(&request);
        refuse(&checked.err().unwrap_or(problem))
    }

    /// Authenticates a request by its token or by its session. Returns the kind of the token, and either the caller or
    /// the reason why the request is refused. The token of a session is the one with which the session was opened.
    fn authenticate(&self, request: &Request) -> (Credential, Result<Caller, ApiProblem>) {
        match dashboard_access::session_of(&self.dashboard, &self.guard, request) {
            None => self.guard.check(request.uri(), request.headers(), |id| stored_token(&*self.admin, id)),
            Some(Ok(caller)) if !is_valid(&*self.admin, Some(&caller)) => {
                (Credential::Wrong, Err(dashboard_access::ended_session()))
            }
            Some(Ok(caller)) => {
                let is_node = caller.tenant().is_none();
                (if is_node { Credential::Valid } else { Credential::Tenant }, Ok(caller))
            }
            Some(Err(problem)) => (Credential::Wrong, Err(problem)),
        }
    }

    /// If the process serves only one app, inserts the names of the tenant and the app into `path`, from which a client
    /// may omit them.
    fn full_path(&self, path: &str) -> Option<String> {
        let (tenant, app) = self.admin.only_app()?;
        let rest = path.strip_prefix("/v1/")?;
        Some(format!("{}/{rest}", routes::APP.replace("{tenant}", tenant.as_str()).replace("{app}", app.as_str())))
    }

    /// Checks whether the caller may call the operation now. For a tenant's token, returns a permit, to be held until
    /// the request ends.
    fn admit(
        &self,
        operation: &Operation<A>,
        named: &PathNames,
        caller: &Caller,
    ) -> Result<Option<RequestPermit>, ApiProblem> {
        operation.rule.check(caller, named)?;
        match caller {
            Caller::Node => Ok(None),
            Caller::Tenant(token) => {
                let kind = match (operation.changes, &operation.input) {
                    (false, _) if operation.is_recorded => RequestKind::DataRead,
                    (false, _) => RequestKind::Read,
                    (true, Input::Stream { .. }) => RequestKind::Upload,
                    (true, _) => RequestKind::Change,
                };
                self.tenant_limits.enter(token, kind).map(Some)
            }
        }
    }

    /// Authenticates and checks a request for the operation with this index, and runs the operation.
    async fn call_operation(self: Arc<Self>, index: usize, named: Option<PathNames>, request: Request) -> Response {
        let operation = &self.operations[index];
        let ConnectionPeer(mut who) =
            request.extensions().get::<ConnectionPeer>().cloned().unwrap_or(ConnectionPeer(Requester::default()));
        let (credential, checked) = self.authenticate(&request);
        who.token = credential;
        if let Ok(Caller::Tenant(token)) = &checked {
            who.tenant_token = Some(token.clone());
        }
        let caller = checked.as_ref().ok().cloned();
        let not_utf8 = || ApiProblem::new(ProblemKind::BadRequest, "a name in the path is not UTF-8");
        let checked = checked.and_then(|caller| if named.is_some() { Ok(caller) } else { Err(not_utf8()) });
        let mut named = named.unwrap_or_default();
        let record = AuditedRequest::new(&self, operation, &named, who);
        let checked = checked.and_then(|caller| {
            let permit = self.admit(operation, &named, &caller)?;
            named.caller = Some(caller);
            Ok(permit)
        });
        let connection = request.extensions().get::<Arc<ConnectionPermit>>().cloned();
        let (checked, in_progress) = match (checked, connection) {
            (Ok(permit), Some(connection)) => match connection.accept().await {
                Ok(in_progress) => (Ok(permit), Some(in_progress)),
                Err(problem) => (Err(problem), None),
            },
            (checked, _) => (checked, None),
        };
        // The response body holds the `ActiveRequest`, so that the registry does not close the connection before the
        // whole response is sent.
        let with_request = |answer: Response| answer.map(|body| HeldBody { body, _held: in_progress }.boxed_unsync());
        let work = match checked {
            Err(problem) => Err(problem),
            Ok(permit) => match self.read_arguments_exclusively(operation, request, permit.as_ref()).await {
                Err(problem) => Err(problem),
                // The token was revoked or has expired while the body arrived.
                Ok(_) if !is_valid(&*self.admin, caller.as_ref()) => Err(guard::unknown_token()),
                Ok((arguments, overflow, exclusive)) => {
                    let work = (operation.run)(self.admin.clone(), &named, arguments);
                    work.map(|work| (work, overflow, permit.map(|permit| (permit, exclusive))))
                }
            },
        };
        let (work, overflow, permits) = match work {
            Ok(work) => work,
            Err(problem) => {
                // A refusal because of the token's tenant or role is recorded, even if the operation changes nothing.
                if operation.changes
                    || operation.is_recorded
                    || (problem.kind == ProblemKind::Forbidden && record.entry.who.tenant_token.is_some())
                {
                    record.refused(&problem).await;
                }
                return with_request(refuse_to(caller.as_ref(), problem));
            }
        };
        with_request(match (operation.changes, operation.is_recorded) {
            (true, _) => self.run_action(record, work, overflow, permits, caller).await,
            (false, true) => {
                // Spawned, so that the line about the end of the read is written even if the client disconnects.
                let result = tokio::spawn(async move { (record.run(work, overflow).await, permits) });
                match result.await {
                    Ok((Ok(answer), permits)) => self.respond(answer, caller, permits.map(|(permit, _)| permit)),
                    Ok((Err(problem), _)) => refuse_to(caller.as_ref(), self.admin.shown(problem)),
                    Err(_) => refuse(&failed()),
                }
            }
            (false, false) => match finished(work.answer).await {
                Ok(answer) => self.respond(answer, caller, permits.map(|(permit, _)| permit)),
                Err(problem) => refuse_to(caller.as_ref(), self.admin.shown(problem)),
            },
        })
    }

    /// Runs an action in its own task, so that the action and its lines in the audit log are completed even if the
    /// client disconnects.
    async fn run_action(
        &self,
        record: AuditedRequest<A>,
        work: PreparedOperation,
        overflow: body::Overflow,
        permits: Option<(RequestPermit, ExclusivePermits)>,
        caller: Option<Caller>,
    ) -> Response {
        let (action_permits, admin, requester) = (self.action_permits.clone(), self.admin.clone(), caller.clone());
        let result = tokio::spawn(async move {
            let tenant_permit = match &permits {
                Some((permit, _)) => Some(permit.action().await),
                None => None,
            };
            let action_permit = action_permits.acquire_owned().await.map_err(|_| stopping())?;
            if !is_valid(&*admin, requester.as_ref()) {
                let problem = guard::unknown_token();
                record.refused(&problem).await;
                return Err(problem);
            }
            let result = record.run(work, overflow).await;
            drop((action_permit, tenant_permit, permits));
            result
        });
        match result.await {
            Ok(Ok(answer)) => self.respond(answer, caller, None),
            Ok(Err(problem)) => refuse_to(caller.as_ref(), self.admin.shown(problem)),
            Err(_) => refuse(&failed()),
        }
    }

    /// Reads the query and the body of a request. A tenant's request whose body is a release first waits for the
    /// tenant's exclusive permits. These are returned and must be held until the operation ends.
    async fn read_arguments_exclusively(
        &self,
        operation: &Operation<A>,
        request: Request,
        permit: Option<&RequestPermit>,
    ) -> Result<(Arguments, body::Overflow, ExclusivePermits), ApiProblem> {
        let exclusive = match (permit, &operation.input) {
            (Some(permit), Input::Json { bytes_max, .. }) if *bytes_max > JSON_BYTES_MAX => {
                let is_large = request.body().size_hint().upper().is_none_or(|bytes| bytes > JSON_BYTES_MAX);
                permit.acquire_exclusive(is_large, !operation.changes).await
            }
            _ => ExclusivePermits::default(),
        };
        let (arguments, overflow) = self.read_arguments(operation, request).await?;
        Ok((arguments, overflow, exclusive))
    }

    /// Reads the query, and the body within its limits on size and time.
    async fn read_arguments(
        &self,
        operation: &Operation<A>,
        request: Request,
    ) -> Result<(Arguments, body::Overflow), ApiProblem> {
        let (parts, body) = request.into_parts();
        let overflow = body::Overflow::default();
        let body = match operation.input {
            Input::Nothing | Input::Query(_) => ArgumentBody::Nothing,
            Input::Json { bytes_max, .. } => {
                check_json(&parts.headers)?;
                ArgumentBody::Whole(body::read(body, bytes_max, self.body_timeout).await?)
            }
            Input::Bytes { bytes_max, .. } => {
                ArgumentBody::Whole(body::read(body, bytes_max, self.body_timeout).await?)
            }
            Input::Stream { bytes_max, .. } => {
                ArgumentBody::Stream(body::stream(body, bytes_max, self.body_timeout, overflow.clone())?)
            }
        };
        let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((Arguments { uri: parts.uri, accept, body }, overflow))
    }

    /// Returns the HTTP response for the result of an operation. The response holds `permit` until it was sent, so that a
    /// client that reads slowly is limited to as few responses as requests. A response that follows a log ends as soon as
    /// the caller's token is no longer valid.
    fn respond(&self, answer: OperationResult, caller: Option<Caller>, permit: Option<RequestPermit>) -> Response {
        match answer {
            OperationResult::Nothing => response(StatusCode::NO_CONTENT, None, Empty::new().boxed_unsync()),
            OperationResult::Document => {
                let text = self.document.clone();
                response(StatusCode::OK, Some("application/json"), Full::new(text).boxed_unsync())
            }
            OperationResult::DashboardCode => {
                let code = caller.ok_or_else(guard::unknown_token);
                match code.and_then(|caller| dashboard_access::create_code(&self.dashboard, caller)) {
                    Ok(code) => {
                        let text = serde_json::to_vec(&code).expect("a code is plain data");
                        response(StatusCode::OK, Some("application/json"), Full::new(text.into()).boxed_unsync())
                    }
                    Err(problem) => refuse(&problem),
                }
            }
            OperationResult::Json { text, charge } => {
                let body = HeldBody { body: Full::new(text.into()), _held: (permit, charge) };
                response(StatusCode::OK, Some("application/json"), body.boxed_unsync())
            }
            OperationResult::Text(MetricsText { content_type, text }) => {
                let body = HeldBody { body: Full::new(text.into()), _held: permit };
                response(StatusCode::OK, Some(content_type), body.boxed_unsync())
            }
            OperationResult::Lines(lines) => {
                let mut running = self.running.clone();
                let (admin, requester) = (self.admin.clone(), caller.clone());
                let ended = async move {
                    let closed = token_invalid(admin, requester);
                    tokio::select! {
                        // No value is ever sent: `changed` returns when the sender is dropped.
                        _ = running.changed() => {}
                        () = closed => {}
                    }
                };
                let admin = self.admin.clone();
                // Check the token at each line as well, so that the caller gets no line after the token was revoked.
                let lines = lines.take_while(move |_| std::future::ready(is_valid(&*admin, caller.as_ref())));
                let lines = lines.take_until(Box::pin(ended)).map(move |line| {
                    let _held = &permit;
                    Ok(Frame::data(line))
                });
                response(StatusCode::OK, Some("application/x-ndjson"), StreamBody::new(lines).boxed_unsync())
            }
        }
    }
}

/// A request, and the entry that is written to the audit log for it.
struct AuditedRequest<A: ?Sized> {
    service: Arc<Service<A>>,
    entry: AuditEntry,
    /// Whether the title of a problem is left out.
    hides_problems: bool,
}

impl<A: AppApi + ?Sized> AuditedRequest<A> {
    fn new(service: &Arc<Service<A>>, operation: &Operation<A>, named: &PathNames, who: Requester) -> Self {
        let get = |name: &str| named.found(name);
        // Leave out invalid names, because they may contain anything, for example a secret.
        let object = get("digest").filter(|_| named.digest().is_ok());
        let object = object.or(get("secret").filter(|_| named.secret().is_ok()));
        let object = object.or(get("store").filter(|_| named.store().is_ok()));
        let object = object.or(get("token").filter(|_| named.token().is_ok()));
        let entry = AuditEntry {
            at_ms: now_ms(),
            action_id: if operation.changes || operation.is_recorded {
                service.actions.fetch_add(1, Ordering::Relaxed)
            } else {
                0
            },
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
        Self { service: service.clone(), entry, hides_problems: operation.hides_problems }
    }

    /// Writes a line to the audit log about an action that was refused before it began.
    async fn refused(mut self, problem: &ApiProblem) {
        if self.entry.who.token != Credential::Valid {
            // Limit the number of lines about refused requests, because any client without the node's token can send
            // requests that are refused, and could fill the disk.
            let counted = match &self.entry.who.tenant_token {
                Some(token) => self.service.tenant_limits.count_refusal(&token.tenant),
                None => self.service.refusals.count(),
            };
            let Some(untold) = counted else { return };
            self.entry.untold = Some(untold).filter(|untold| *untold > 0);
        }
        self.entry.phase = Phase::Refused;
        self.ended(problem);
        self.write().await;
    }

    /// Runs an action. Writes a line to the audit log before the action begins, and another one when it has ended.
    async fn run(mut self, work: PreparedOperation, overflow: body::Overflow) -> Result<OperationResult, ApiProblem> {
        if work.details.to_string().len() <= DETAILS_BYTES_MAX {
            self.entry.details = work.details;
        }
        if let Err(error) = self.write_entry().await {
            tracing::error!(%error, cause = %error.source, "refused an action, because the audit log cannot be written");
            let problem = ApiProblem::new(ProblemKind::Failed, "nothing was done: the audit log cannot be written");
            return Err(problem.detail(format!("{error}: {}", error.source)));
        }
        let done = as_action(self.entry.action_id, finished(work.answer)).await;
        let done = done.map_err(|problem| overflow.problem().unwrap_or(problem));
        self.entry.phase = Phase::End;
        self.entry.at_ms = now_ms();
        self.entry.details = Value::Null;
        match &done {
            Ok(answer @ OperationResult::Json { .. }) => {
                (self.entry.status, self.entry.revision) = (Some(200), answer.revision());
            }
            Ok(_) => self.entry.status = Some(204),
            Err(problem) => self.ended(problem),
        }
        self.write().await;
        done
    }

    fn ended(&mut self, problem: &ApiProblem) {
        self.entry.status = Some(problem.kind.status());
        let is_shown = !self.hides_problems || problem.kind == ProblemKind::Forbidden;
        self.entry.problem = is_shown.then(|| problem.title.chars().take(PROBLEM_CHARS_MAX).collect());
    }

    async fn write_entry(&self) -> Result<(), AuditError> {
        match &self.service.audit {
            Some(audit) => audit.write(&self.entry).await,
            None => Ok(()),
        }
    }

    async fn write(&self) {
        if let Err(error) = self.write_entry().await {
            tracing::error!(%error, cause = %error.source, action = self.entry.action, "cannot write a line of the audit log");
        }
    }
}

/// Waits for the result of an operation. A panic is returned as a failure of the node, so that the line about the end
/// of the action is still written.
async fn finished(
    answer: BoxFuture<'static, Result<OperationResult, ApiProblem>>,
) -> Result<OperationResult, ApiProblem> {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| Err(failed()))
}

/// Returns the stored form of a tenant's token; `None` if there is no such token, or if it has expired.
fn stored_token(admin: &(impl AppApi + ?Sized), id: &TokenId) -> Option<StoredToken> {
    admin.stored_token(id).filter(|stored| !stored.info.is_expired_at(now_ms() / 1000))
}

/// Returns whether the caller's token is still valid: it may have been revoked, or have expired, since it was checked.
fn is_valid(admin: &(impl AppApi + ?Sized), caller: Option<&Caller>) -> bool {
    match caller {
        Some(Caller::Node) => true,
        Some(Caller::Tenant(token)) => stored_token(admin, &token.id).is_some(),
        None => false,
    }
}

/// Waits until the caller's token is no longer valid.
async fn token_invalid(admin: Arc<impl AppApi + ?Sized>, caller: Option<Caller>) {
    if matches!(caller, Some(Caller::Node)) {
        return std::future::pending().await;
    }
    while is_valid(&*admin, caller.as_ref()) {
        tokio::time::sleep(TOKEN_CHECK_EVERY).await;
    }
}

fn stopping() -> ApiProblem {
    ApiProblem::new(ProblemKind::Unavailable, "the node is shutting down")
}

fn failed() -> ApiProblem {
    ApiProblem::new(ProblemKind::Failed, "the node failed during this operation").hint("see the node's log")
}
