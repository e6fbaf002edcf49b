//! The dashboard on the admin API's listener: its files, the sessions of browsers, and links that open it.
//!
//! A session has the rights of the token with which its one-time code was created. Each request checks again that this
//! token is valid. A session cannot create one-time codes. Otherwise, a browser could open a new session before the old
//! one expires, again and again.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use isomer_api::dashboard::DashboardCode;
use isomer_api::{ApiProblem, ProblemKind, routes};
use isomer_dashboard::{CODE_LIFETIME, Dashboard, SESSION_PATH, SessionRefusal, SessionRights};

use crate::address::AdminAddress;
use crate::caller::Caller;
use crate::guard::Guard;
use crate::response::{Request, Response, refuse};

/// The dashboard, whose sessions have the rights of a [`Caller`].
pub(crate) type AdminDashboard = Dashboard<Caller>;

impl SessionRights for Caller {
    fn owner(&self) -> &str {
        // The empty name stands for the node's token, because no tenant has this name.
        self.tenant().map_or("", |tenant| tenant.as_str())
    }
}

/// Creates links that open the dashboard with the rights of the process's own token.
#[derive(Debug, Clone)]
pub struct DashboardLinks {
    dashboard: Arc<AdminDashboard>,
    url: String,
}

impl DashboardLinks {
    /// Returns links for the server at `address`; `None` if the address is a Unix socket, to which browsers cannot
    /// connect.
    pub(crate) fn new(dashboard: &Arc<AdminDashboard>, address: &AdminAddress) -> Option<Self> {
        match address {
            AdminAddress::Tcp(_) => Some(Self { dashboard: dashboard.clone(), url: address.url() }),
            AdminAddress::Unix(_) => None,
        }
    }

    /// Creates a link that can be used once, within [`CODE_LIFETIME`], to open the dashboard; `None` if the operating
    /// system provides no random bytes.
    #[must_use]
    pub fn create(&self) -> Option<String> {
        let code = self.dashboard.create_code(Caller::Node).ok()?;
        Some(dashboard_link(&self.url, code.reveal()))
    }
}

/// Returns the link that opens the dashboard of the process at `url` with a one-time code.
#[must_use]
pub fn dashboard_link(url: &str, code: &str) -> String {
    format!("{url}/?code={code}")
}

/// Responds to a request for a file or a session of the dashboard. Returns `None` for all other requests.
pub(crate) fn respond(dashboard: &AdminDashboard, guard: &Guard, request: &Request) -> Option<Response> {
    let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
    let is_session = path == SESSION_PATH && matches!(*method, Method::POST | Method::DELETE);
    if !is_session && !Dashboard::<Caller>::has_file(method, path) {
        return None;
    }
    if let Err(problem) = guard.check_host_name(request.uri(), headers) {
        return Some(refuse(&problem));
    }
    let response = match (is_session, method) {
        (false, _) => Ok(Dashboard::<Caller>::file(method, path, headers)?),
        (true, &Method::POST) => dashboard.start(headers),
        (true, _) => dashboard.end(headers),
    };
    Some(match response {
        Ok(response) => response.map(|body: Bytes| Full::new(body).boxed_unsync()),
        Err(refusal) => refuse(&problem_of(refusal)),
    })
}

/// Returns the caller for which a request of the dashboard acts: the session that the request belongs to has this
/// caller's rights. Returns `None` if the request does not come from a page of the dashboard.
pub(crate) fn session_of(
    dashboard: &AdminDashboard,
    guard: &Guard,
    request: &Request,
) -> Option<Result<Caller, ApiProblem>> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let rights = dashboard.rights(request.headers(), changes)?;
    let caller = guard.check_host_name(request.uri(), request.headers()).and(rights.map_err(problem_of));
    Some(caller.and_then(|caller| match request.uri().path() == routes::DASHBOARD_CODES {
        true => {
            Err(ApiProblem::new(ProblemKind::Forbidden, "a session of the dashboard cannot create another session"))
        }
        false => Ok(caller),
    }))
}

/// Returns the problem for a session whose token is no longer valid.
pub(crate) fn ended_session() -> ApiProblem {
    problem_of(SessionRefusal::Unknown)
}

/// Creates a one-time code with the rights of `caller`.
pub(crate) fn create_code(dashboard: &AdminDashboard, caller: Caller) -> Result<DashboardCode, ApiProblem> {
    let code = dashboard.create_code(caller).map_err(|error| problem_of(error.into()))?;
    Ok(DashboardCode { code: code.reveal().to_owned(), expires_in_s: CODE_LIFETIME.as_secs() })
}

fn problem_of(refusal: SessionRefusal) -> ApiProblem {
    let kind = match refusal {
        SessionRefusal::Unknown | SessionRefusal::Code => ProblemKind::Unauthorized,
        SessionRefusal::ForeignPage => ProblemKind::Forbidden,
        SessionRefusal::Random(_) => ProblemKind::Failed,
    };
    ApiProblem::new(kind, refusal.to_string()).hint("open the dashboard again: isomer dashboard")
}
