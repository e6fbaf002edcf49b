//! The registry of the admin API's open connections. It limits their number, and chooses a connection to close for a
//! new one.
//!
//! Any client that reaches the listener can open connections, even without a token. A connection is *unauthenticated*
//! until a request on it is accepted. A request is accepted only if its token permits the operation.
//!
//! The number of unauthenticated connections is limited. At the limit, the registry looks for the client with the most
//! unauthenticated connections, and closes the oldest one of these connections. So a client that sends its request as
//! soon as it is connected gets a response, even if other clients keep many connections open without a request.
//!
//! The number of connections with an accepted request has a limit of its own. At this limit, the registry closes the
//! connection that has been idle for the longest time. If every connection has a request in progress, the next request
//! waits.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isomer_api::{ApiProblem, ProblemKind};
use isomer_transport::ClientNetwork;
use tokio::sync::Notify;

use crate::audit::Requester;

/// The client of a connection. Connections are counted per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientSource {
    /// The network of a client that is connected over TCP.
    Network(ClientNetwork),
    /// The user id of a client that is connected over the Unix socket.
    User(u32),
}

impl ClientSource {
    pub(crate) fn of(who: &Requester) -> Self {
        match who.peer {
            Some(peer) => Self::Network(ClientNetwork::of(peer.ip())),
            None => Self::User(who.uid.unwrap_or_default()),
        }
    }
}

/// The open connections of an admin API, and their limits.
#[derive(Debug)]
pub(crate) struct ConnectionRegistry {
    accepted_max: usize,
    unauthenticated_max: usize,
    /// The maximum time that an accepted request waits while `accepted_max` other connections have requests in
    /// progress.
    wait_max: Duration,
    registry: Mutex<OpenConnections>,
    /// Notified when a connection is closed or a request ends.
    freed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    /// The sequence number of the last event. Each opening of a connection and each end of a request is an event.
    clock: u64,
    /// The open connections, by sequence number: the value of `clock` when the connection was opened.
    open: BTreeMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    source: ClientSource,
    /// Whether a request on the connection has been accepted.
    is_accepted: bool,
    /// The number of requests on the connection that are in progress or that wait in [`ConnectionPermit::accept`].
    requests: u32,
    /// The value of `clock` when the last request on the connection ended, or, before the first request, when the
    /// connection was opened.
    since: u64,
    evicted: Arc<Notify>,
}

/// The registration of an open connection. Dropping this value removes the connection from the registry.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    all: Arc<ConnectionRegistry>,
    id: u64,
    evicted: Arc<Notify>,
    was_accepted: AtomicBool,
}

/// An accepted request in progress. Dropping this value ends the request. The registry does not close a connection that
/// has a request in progress.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<ConnectionPermit>);

impl ConnectionRegistry {
    pub(crate) fn new(accepted_max: usize, unauthenticated_max: usize, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self { accepted_max, unauthenticated_max, wait_max, registry: Mutex::default(), freed: Notify::new() })
    }

    /// Registers a new connection. If there are too many unauthenticated connections, closes one of them. Returns
    /// `None` if none of them can be closed, because a request on each of them waits in [`ConnectionPermit::accept`].
    pub(crate) fn enter(self: &Arc<Self>, source: ClientSource) -> Option<Arc<ConnectionPermit>> {
        let mut registry = self.lock();
        if registry.open.values().filter(|open| !open.is_accepted).count() >= self.unauthenticated_max {
            let evicted = registry.unauthenticated_to_evict()?;
            registry.evict(evicted);
        }
        let (id, evicted) = (registry.tick(), Arc::new(Notify::new()));
        let open = OpenConnection { source, is_accepted: false, requests: 0, since: id, evicted: evicted.clone() };
        registry.open.insert(id, open);
        Some(Arc::new(ConnectionPermit { all: self.clone(), id, evicted, was_accepted: AtomicBool::new(false) }))
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        // No method panics while the registry is inconsistent, so a poisoned lock can be used.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn evict(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            open.evicted.notify_one();
        }
    }

    /// Returns the sequence number of the oldest unauthenticated connection of the client that has the most
    /// unauthenticated connections.
    fn unauthenticated_to_evict(&self) -> Option<u64> {
        let unauthenticated = || self.open.iter().filter(|(_, open)| !open.is_accepted && open.requests == 0);
        let mut by_source: HashMap<ClientSource, usize> = HashMap::new();
        unauthenticated().for_each(|(_, open)| *by_source.entry(open.source).or_default() += 1);
        let most = by_source.values().max()?;
        unauthenticated().find(|(_, open)| by_source.get(&open.source) == Some(most)).map(|(id, _)| *id)
    }

    /// Marks a connection as accepted: a request on it has been accepted. If `max` connections are already accepted,
    /// closes the one of them that has been idle for the longest time. If none of them is idle, does not mark the
    /// connection and returns [`Acceptance::NotYet`].
    fn accept(&mut self, id: u64, max: usize) -> Acceptance {
        match self.open.get(&id) {
            None => return Acceptance::Evicted,
            Some(open) if open.is_accepted => return Acceptance::Yes,
            Some(_) => {}
        }
        let accepted = || self.open.iter().filter(|(_, open)| open.is_accepted);
        if accepted().count() >= max {
            let idle = accepted().filter(|(_, open)| open.requests == 0);
            let Some((longest_idle, _)) = idle.min_by_key(|(_, open)| open.since) else { return Acceptance::NotYet };
            let longest_idle = *longest_idle;
            self.evict(longest_idle);
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.is_accepted = true;
        }
        Acceptance::Yes
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Acceptance {
    Yes,
    NotYet,
    Evicted,
}

impl ConnectionPermit {
    /// Registers an accepted request on the connection. Waits while too many other connections have requests in
    /// progress.
    ///
    /// # Errors
    /// If the wait exceeds the time limit, or if the registry has just closed the connection.
    pub(crate) async fn accept(self: &Arc<Self>) -> Result<ActiveRequest, ApiProblem> {
        let full = || {
            let title = format!("all {} connections of the admin API have requests in progress", self.all.accepted_max);
            ApiProblem::new(ProblemKind::Quota, title).hint("retry when one of these requests has ended")
        };
        {
            let mut registry = self.all.lock();
            registry.open.get_mut(&self.id).ok_or_else(full)?.requests += 1;
        }
        let request = ActiveRequest(self.clone());
        let placed = async {
            loop {
                let mut freed = pin!(self.all.freed.notified());
                // Register for notifications before `accept` checks the limit, so that no notification after this check
                // is missed.
                freed.as_mut().enable();
                let accepted = self.all.lock().accept(self.id, self.all.accepted_max);
                match accepted {
                    Acceptance::Yes => return true,
                    Acceptance::Evicted => return false,
                    Acceptance::NotYet => freed.await,
                }
            }
        };
        match tokio::time::timeout(self.all.wait_max, placed).await {
            Ok(true) => {
                self.was_accepted.store(true, Ordering::Relaxed);
                Ok(request)
            }
            Ok(false) | Err(_) => Err(full()),
        }
    }

    /// Waits until the registry requests that this connection is closed, to make room for a new one. Returns true if no
    /// request on the connection was ever accepted.
    pub(crate) async fn evicted(&self) -> bool {
        self.evicted.notified().await;
        !self.was_accepted.load(Ordering::Relaxed)
    }

    /// Returns whether no request on the connection was ever accepted, and no request is waiting to be accepted.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.all.lock().open.get(&self.id).is_some_and(|open| !open.is_accepted && open.requests == 0)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.id);
        self.all.freed.notify_waiters();
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let ConnectionPermit { all, id, .. } = &*self.0;
        {
            let mut registry = all.lock();
            let now = registry.tick();
            if let Some(open) = registry.open.get_mut(id) {
                open.requests = open.requests.saturating_sub(1);
                open.since = now;
            }
        }
        all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> ClientSource {
        ClientSource::Network(ClientNetwork::of([192, 0, 2, last].into()))
    }

    fn is_evicted(connection: &ConnectionPermit) -> bool {
        !connection.all.lock().open.contains_key(&connection.id)
    }

    fn connections(accepted_max: usize, unauthenticated_max: usize) -> Arc<ConnectionRegistry> {
        ConnectionRegistry::new(accepted_max, unauthenticated_max, Duration::from_secs(60))
    }

    #[test]
    fn a_network_is_one_source() {
        let source =
            |peer: &str| ClientSource::of(&Requester { peer: Some(peer.parse().unwrap()), ..Requester::default() });
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:2]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(source("[::ffff:192.0.2.1]:1"), address(1));
        assert_eq!(ClientSource::of(&Requester { uid: Some(7), ..Requester::default() }), ClientSource::User(7));
    }

    #[test]
    fn an_unauthenticated_connection_of_the_largest_client_is_closed_for_the_next() {
        let all = connections(2, 4);
        let modest = all.enter(address(1)).unwrap();
        let greedy: Vec<_> = (0..3).map(|_| all.enter(address(2)).unwrap()).collect();
        let next = all.enter(address(3)).unwrap();
        assert!(is_evicted(&greedy[0]) && greedy[0].evicted().now_or_never().is_some());
        assert!(![&modest, &greedy[1], &greedy[2], &next].into_iter().any(|open| is_evicted(open)));
        let _more: Vec<_> = (0..20).map(|_| all.enter(address(2)).unwrap()).collect();
        assert!(!is_evicted(&modest) && !is_evicted(&next), "the client closes only its own connections");
        assert!(modest.is_unauthenticated() && !greedy[0].is_unauthenticated());
    }

    #[tokio::test]
    async fn unauthenticated_connections_do_not_close_one_with_an_accepted_request() {
        let all = connections(2, 1);
        let known = all.enter(address(1)).unwrap();
        drop(known.accept().await.unwrap());
        for _ in 0..5 {
            all.enter(address(1)).unwrap();
        }
        assert!(!is_evicted(&known) && !known.is_unauthenticated());
        drop(known.accept().await.unwrap());
        // A connection whose first request waits to be accepted is not closed for a new connection.
        let busy = all.enter(address(1)).unwrap();
        let requests = [known.accept().await.unwrap(), busy.accept().await.unwrap()];
        let waiter = all.enter(address(1)).unwrap();
        let mut waiting = pin!(waiter.accept());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(all.enter(address(2)).is_none(), "the only unauthenticated connection waits");
        drop(requests);
        drop(waiting.await.unwrap());
        assert!(
            is_evicted(&known) && !is_evicted(&busy),
            "the connection that was idle for the longest time is closed"
        );
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_longest_is_closed_for_one_with_a_request() {
        let all = connections(2, 2);
        let open = [all.enter(address(1)).unwrap(), all.enter(address(1)).unwrap()];
        let first = open[0].accept().await.unwrap();
        drop(open[1].accept().await.unwrap());
        drop(first);
        let next = all.enter(address(1)).unwrap();
        let _request = next.accept().await.unwrap();
        assert_eq!(open.each_ref().map(|open| is_evicted(open)), [false, true]);
        assert!(open[1].accept().await.is_err(), "the connection is being closed");
        drop((open, next));
    }

    #[tokio::test]
    async fn closed_connections_are_removed() {
        let all = connections(1, 2);
        let connection = all.enter(address(1)).unwrap();
        let request = connection.accept().await.unwrap();
        drop(connection);
        assert_eq!(all.lock().open.len(), 1, "the response has not been sent yet");
        drop(request);
        assert!(all.lock().open.is_empty());
    }
}
