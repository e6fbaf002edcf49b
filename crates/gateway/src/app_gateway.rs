//! What an app's gateway keeps from one revision to the next: the key of its sessions, its rates, and references to
//! revisions that are still in memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use isomer_ids::PlanDigest;
use isomer_transport::ClientNetwork;

use crate::browser_revision::BrowserRevision;
use crate::cookies::{self, PLAIN_COOKIE_PREFIX, SECURE_COOKIE};
use crate::ended_sessions::{EndedSessions, EndedStore};
use crate::rate::{Rate, RateTable};
use crate::session::{Identity, KEY_BYTES, SessionKey, TOKEN_SECONDS_MAX, UnixSeconds, VisitorSession};

/// The rate of the requests of one session to the gateway. A call takes one token. The burst is that of 30 pages which
/// load at the same time and make ten calls each.
pub const SESSION_RATE: Rate = Rate { per_second: 100, burst: 300 };

/// The rate of the requests of one client network to the gateway. Many visitors may share a network.
pub const NETWORK_RATE: Rate = Rate { per_second: 400, burst: 1200 };

/// The rate at which one client network gets new sessions.
pub const NEW_SESSION_RATE: Rate = Rate { per_second: 5, burst: 100 };

/// The rate of bytes in log lines of one session's tabs. A batch of the maximum size is not larger than the burst.
pub const SESSION_LOG_RATE: Rate = Rate { per_second: 2 << 10, burst: 128 << 10 };

/// The rate of bytes in log lines of one client network's tabs.
pub const NETWORK_LOG_RATE: Rate = Rate { per_second: 8 << 10, burst: 256 << 10 };

/// The rate of bytes in log lines of all tabs of an app, so that no number of networks can displace the latest lines
/// within seconds, or use up what an exporter may send.
pub const APP_LOG_RATE: Rate = Rate { per_second: 32 << 10, burst: 1 << 20 };

/// The maximum number of sessions, and of client networks, whose rates are measured separately. Further ones share a
/// rate.
pub const RATE_KEYS_MAX: usize = 4096;

/// The maximum memory of a gateway in bytes: five tables of at most 8,192 entries of 50 bytes, and the ended
/// sessions, a table of 65,536 entries of 21 bytes.
pub const GATEWAY_BYTES_MAX: usize = 4 << 20;

/// The maximum number of earlier revisions that a gateway refers to.
const REVISIONS_MAX: usize = 8;

/// The maximum time for which tabs may call a revision after another one serves. Each call keeps its revision
/// in memory, so without this limit, a client that makes overlapping calls could call a revision for ever, for example
/// one with a fault, or one that exposes a function by mistake.
pub const OLD_REVISION_MAX: Duration = Duration::from_secs(10 * 60);

/// The time of a request, on both clocks that the gateway uses.
#[derive(Debug, Clone, Copy)]
pub struct RequestTime {
    /// The time of day, for tokens.
    pub unix: UnixSeconds,
    /// The monotonic time, for rates.
    pub instant: Instant,
}

/// The client of a request, as the gateway distinguishes clients.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    /// The network of the client; `None` if it is unknown.
    pub network: Option<ClientNetwork>,
    /// The scheme that the client used.
    pub scheme: Scheme,
}

/// The gateway of an app: its sessions, and the rates of requests.
pub struct AppGateway {
    key: SessionKey,
    /// The name of the session's cookie over plain HTTP.
    plain_cookie: String,
    ended: Mutex<EndedSessions>,
    rates: Mutex<Rates>,
    revisions: Mutex<Vec<KnownRevision>>,
    /// What is charged for [`GATEWAY_BYTES_MAX`].
    _memory: Option<Box<dyn Send + Sync>>,
}

/// A revision that has served clients.
#[derive(Debug)]
struct KnownRevision {
    plan: PlanDigest,
    revision: Weak<BrowserRevision>,
    /// The time until which tabs may call the revision; `None` if no later one serves.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Rates {
    sessions: RateTable<Identity>,
    networks: RateTable<ClientNetwork>,
    new_sessions: RateTable<ClientNetwork>,
    session_logs: RateTable<Identity>,
    network_logs: RateTable<ClientNetwork>,
    /// A table with one key.
    logs: RateTable<()>,
}

impl RequestTime {
    /// Returns the current time.
    #[must_use]
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { unix, instant: Instant::now() }
    }
}

impl AppGateway {
    /// Creates the gateway of an app whose sessions have this key.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let (key, now) = (SessionKey::new(key), Instant::now());
        let rates = Rates {
            sessions: RateTable::new(SESSION_RATE, RATE_KEYS_MAX, now),
            networks: RateTable::new(NETWORK_RATE, RATE_KEYS_MAX, now),
            new_sessions: RateTable::new(NEW_SESSION_RATE, RATE_KEYS_MAX, now),
            session_logs: RateTable::new(SESSION_LOG_RATE, RATE_KEYS_MAX, now),
            network_logs: RateTable::new(NETWORK_LOG_RATE, RATE_KEYS_MAX, now),
            logs: RateTable::new(APP_LOG_RATE, 1, now),
        };
        Self {
            plain_cookie: format!("{PLAIN_COOKIE_PREFIX}{}", key.name()),
            key,
            ended: Mutex::default(),
            rates: Mutex::new(rates),
            revisions: Mutex::default(),
            _memory: None,
        }
    }

    /// Makes the gateway remember ended sessions after a restart. `records` are those in `store`.
    #[must_use]
    pub fn remembering(self, records: &[u8], time: RequestTime, store: Box<dyn EndedStore>) -> Self {
        Self { ended: Mutex::new(EndedSessions::restored(records, time.unix, store)), ..self }
    }

    /// Keeps `memory`, which is charged for [`GATEWAY_BYTES_MAX`], as long as the gateway exists.
    #[must_use]
    pub fn charged(self, memory: impl Send + Sync + 'static) -> Self {
        Self { _memory: Some(Box::new(memory)), ..self }
    }

    /// Adds a revision that begins to serve. Tabs may call it until it leaves memory, and call the earlier ones for at
    /// most [`OLD_REVISION_MAX`].
    pub(crate) fn add_revision(&self, revision: &Arc<BrowserRevision>, now: Instant) {
        let plan = revision.functions().plan();
        let mut revisions = lock(&self.revisions);
        revisions.retain(|known| known.plan != plan && known.revision.strong_count() > 0);
        for earlier in &mut *revisions {
            earlier.until.get_or_insert(now + OLD_REVISION_MAX);
        }
        if revisions.len() == REVISIONS_MAX {
            revisions.remove(0);
        }
        revisions.push(KnownRevision { plan, revision: Arc::downgrade(revision), until: None });
    }

    /// Returns the revision with this plan digest, if it is still in memory and may still be called.
    #[must_use]
    pub(crate) fn revision(&self, plan: PlanDigest, now: Instant) -> Option<Arc<BrowserRevision>> {
        let revisions = lock(&self.revisions);
        let is_current = |known: &&KnownRevision| known.plan == plan && known.until.is_none_or(|until| now < until);
        revisions.iter().find(is_current)?.revision.upgrade()
    }

    /// Refuses further calls of all revisions but the one in service. Called before the stores of the app are replaced,
    /// so that no call starts in earlier code on the new stores.
    pub fn end_revisions(&self) {
        lock(&self.revisions).clear();
    }

    /// Returns the revision whose files have this digest, if it is still in memory.
    #[must_use]
    pub(crate) fn revision_of_files(&self, digest: &str) -> Option<Arc<BrowserRevision>> {
        let revisions = lock(&self.revisions);
        revisions
            .iter()
            .rev()
            .filter_map(|known| known.revision.upgrade())
            .find(|it| it.files().is_some_and(|files| files.digest() == digest))
    }

    /// Returns the session that a request proves with its cookie.
    #[must_use]
    pub fn session(&self, headers: &HeaderMap, scheme: &Scheme, time: RequestTime) -> Option<VisitorSession> {
        let mut sessions = cookies::values(headers, self.cookie(scheme)).filter_map(|it| self.key.check(it, time.unix));
        sessions.find(|session| !self.has_ended(session))
    }

    /// Returns whether a session has ended. A session can end while one of its requests is in progress.
    pub(crate) fn has_ended(&self, session: &VisitorSession) -> bool {
        lock(&self.ended).contains(&session.identity())
    }

    /// Starts a session. Returns `None` if the client network exceeds [`NEW_SESSION_RATE`], or if the system has no
    /// random bytes.
    #[must_use]
    pub fn start_session(&self, client: &GatewayClient, time: RequestTime) -> Option<VisitorSession> {
        if let Some(network) = client.network {
            lock(&self.rates).new_sessions.take(network, 1, time.instant).ok()?;
        }
        match self.key.issue(time.unix) {
            Ok(session) => Some(session),
            Err(error) => {
                isomer_telemetry::error!(%error, "no session can be started");
                None
            }
        }
    }

    /// Ends a session, and starts one with another identity. Returns `None` if the client gets no further session now;
    /// the session has ended nevertheless.
    #[must_use]
    pub fn rotate(
        &self,
        session: &VisitorSession,
        client: &GatewayClient,
        time: RequestTime,
    ) -> Option<VisitorSession> {
        lock(&self.ended).add(session.identity(), time.unix);
        self.start_session(client, time)
    }

    /// Returns the session with a new token if its token is old. Returns `None` if the session has ended meanwhile: its
    /// token would replace that of the next session in the browser.
    #[must_use]
    pub fn renewed(&self, session: &VisitorSession, time: RequestTime) -> Option<VisitorSession> {
        (session.is_due(time.unix) && !self.has_ended(session)).then(|| self.key.renew(session, time.unix))
    }

    /// Counts a request of a session and a client network. `tokens` states how expensive the request is.
    ///
    /// # Errors
    /// If a rate is exceeded: the time after which the request is accepted.
    pub fn admit(
        &self,
        identity: Option<Identity>,
        client: &GatewayClient,
        tokens: u32,
        time: RequestTime,
    ) -> Result<(), Duration> {
        let mut rates = lock(&self.rates);
        if let Some(identity) = identity {
            rates.sessions.take(identity, tokens, time.instant)?;
        }
        match client.network {
            Some(network) => rates.networks.take(network, tokens, time.instant),
            None => Ok(()),
        }
    }

    /// Counts the bytes of a batch of log lines: see [`stored_bytes`](crate::tab_logs::stored_bytes).
    ///
    /// # Errors
    /// If a rate is exceeded: the time after which the batch is accepted.
    pub fn admit_logs(
        &self,
        identity: Identity,
        client: &GatewayClient,
        bytes: usize,
        time: RequestTime,
    ) -> Result<(), Duration> {
        let (mut rates, bytes) = (lock(&self.rates), u32::try_from(bytes).unwrap_or(u32::MAX));
        rates.session_logs.take(identity, bytes, time.instant)?;
        if let Some(network) = client.network {
            rates.network_logs.take(network, bytes, time.instant)?;
        }
        rates.logs.take((), bytes, time.instant)
    }

    /// Returns the line of `Set-Cookie` that gives the client the token of a session.
    #[must_use]
    pub fn set_cookie(&self, session: &VisitorSession, scheme: &Scheme) -> HeaderValue {
        let secure = if *scheme == Scheme::HTTPS { "; Secure" } else { "" };
        let (name, token) = (self.cookie(scheme), self.key.token(session));
        let line = format!("{name}={token}; Path=/; Max-Age={TOKEN_SECONDS_MAX}; HttpOnly; SameSite=Lax{secure}");
        let mut line = HeaderValue::try_from(line).expect("a token is valid in a header");
        line.set_sensitive(true);
        line
    }

    /// Returns the `Set-Cookie` value that removes the token of a session from the client.
    pub(crate) fn remove_cookie(&self, scheme: &Scheme) -> HeaderValue {
        let secure = if *scheme == Scheme::HTTPS { "; Secure" } else { "" };
        let line = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}", self.cookie(scheme));
        HeaderValue::try_from(line).expect("the name of a cookie is valid in a header")
    }

    /// Returns the name of the session's cookie. A request over HTTPS never uses the cookie of plain HTTP, because an
    /// attacker in the network can set that cookie.
    fn cookie(&self, scheme: &Scheme) -> &str {
        if *scheme == Scheme::HTTPS { SECURE_COOKIE } else { &self.plain_cookie }
    }
}

impl fmt::Debug for AppGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppGateway").field("cookie", &self.plain_cookie).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use http::header::COOKIE;

    use super::*;

    pub(crate) fn gateway() -> AppGateway {
        AppGateway::new(&[5; KEY_BYTES])
    }

    pub(crate) fn client(address: &str) -> GatewayClient {
        GatewayClient { network: Some(ClientNetwork::of(address.parse().unwrap())), scheme: Scheme::HTTPS }
    }

    pub(crate) fn time() -> RequestTime {
        RequestTime { unix: 1_800_000_000, instant: Instant::now() }
    }

    fn cookie_of(line: &HeaderValue) -> HeaderMap {
        let line = line.to_str().unwrap();
        let pair = line.split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, pair.parse().unwrap())])
    }

    #[test]
    fn a_cookie_proves_a_session_only_over_its_scheme() {
        let (gateway, time) = (gateway(), time());
        let session = gateway.start_session(&client("192.0.2.1"), time).unwrap();
        for (scheme, other) in [(Scheme::HTTPS, Scheme::HTTP), (Scheme::HTTP, Scheme::HTTPS)] {
            let headers = cookie_of(&gateway.set_cookie(&session, &scheme));
            assert_eq!(gateway.session(&headers, &scheme, time).as_ref(), Some(&session));
            assert_eq!(gateway.session(&headers, &other, time), None);
        }
        let line = gateway.set_cookie(&session, &Scheme::HTTPS);
        let line = line.to_str().unwrap();
        assert!(line.starts_with("__Host-isomer-session="), "{line}");
        assert!(["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"].iter().all(|it| line.contains(it)), "{line}");
        assert!(!line.contains("Domain"), "{line}");
    }

    #[test]
    fn apps_on_other_ports_have_other_cookies() {
        let other = AppGateway::new(&[6; KEY_BYTES]);
        assert_ne!(other.cookie(&Scheme::HTTP), gateway().cookie(&Scheme::HTTP));
    }

    #[test]
    fn a_rotated_session_has_ended() {
        let (gateway, time) = (gateway(), time());
        let first = gateway.start_session(&client("192.0.2.1"), time).unwrap();
        let second = gateway.rotate(&first, &client("192.0.2.1"), time).unwrap();
        assert_ne!(first.identity(), second.identity());
        let found =
            |session| gateway.session(&cookie_of(&gateway.set_cookie(session, &Scheme::HTTPS)), &Scheme::HTTPS, time);
        assert_eq!((found(&first), found(&second).as_ref()), (None, Some(&second)));
    }

    #[test]
    fn log_lines_are_limited_by_session_by_network_and_by_app() {
        let (gateway, time) = (gateway(), time());
        let session = |network: u32| {
            let client = client(&format!("192.0.{}.{}", network / 250, network % 250));
            (gateway.start_session(&client, time).unwrap().identity(), client)
        };
        let accepted = |(identity, client): &(Identity, GatewayClient), batches: u32| {
            (0..batches).filter(|_| gateway.admit_logs(*identity, client, 1 << 10, time).is_ok()).count()
        };
        let own = session(1);
        assert_eq!(accepted(&own, 1000), 128);
        let of_network: usize = (0..10).map(|_| accepted(&session(1), 100)).sum();
        assert_eq!(of_network, 256 - 128);
        let of_others: usize = (2..100).map(|network| accepted(&session(network), 100)).sum();
        assert_eq!(of_others, 1024 - 256);
        let later = RequestTime { instant: time.instant + Duration::from_secs(1), ..time };
        assert_eq!(gateway.admit_logs(own.0, &own.1, 2 << 10, later), Ok(()));
    }

    #[test]
    fn floods_are_limited_by_session_and_by_network() {
        let (gateway, time) = (gateway(), time());
        let network = |number: u32| client(&format!("192.0.2.{number}"));
        let identity = gateway.start_session(&network(1), time).unwrap().identity();
        // One session, from many addresses.
        let accepted =
            (0..1000).filter(|it| gateway.admit(Some(identity), &network(it % 250), 1, time).is_ok()).count();
        assert_eq!(accepted, SESSION_RATE.burst as usize);
        // Many sessions (tabs), from one address.
        let sessions = (0..1000).filter_map(|_| gateway.start_session(&network(251), time)).collect::<Vec<_>>();
        assert_eq!(sessions.len(), NEW_SESSION_RATE.burst as usize);
        let attempts = (0..5000).map(|number| &sessions[number % sessions.len()]);
        let accepted = attempts.filter(|it| gateway.admit(Some(it.identity()), &network(251), 1, time).is_ok()).count();
        assert_eq!(accepted, NETWORK_RATE.burst as usize);
        // Another visitor is not affected.
        let other = gateway.start_session(&network(252), time).unwrap();
        assert_eq!(gateway.admit(Some(other.identity()), &network(252), 1, time), Ok(()));
    }
}
