//! The connections of the admin API: how many there may be, and which one is closed for another.
//!
//! Anybody who reaches the listener can open connections, also without a token. A connection is a stranger's until a request on it was accepted, which
//! takes a token that opens what is asked for. Strangers have places of their own: when these are taken, one of the address that has the most of them
//! is closed for the next, the oldest first. So the one that sends its request at once gets its answer, however many others wait there. Connections
//! with an accepted request have the other places: when these are taken, the one that has waited longest for its next request is closed, and where all
//! have a request in progress, the next one waits.

use std::collections::{BTreeMap, HashMap};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use isomer_api::{ApiProblem, ProblemKind};
use isomer_transport::ClientNetwork;
use tokio::sync::Notify;

use crate::audit::Who;

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An address, or a network of IPv6 in which one host may have all addresses.
    Network(ClientNetwork),
    /// A user of this machine.
    User(u32),
}

impl Source {
    pub(crate) fn of(who: &Who) -> Self {
        match who.peer {
            Some(peer) => Self::Network(ClientNetwork::of(peer.ip())),
            None => Self::User(who.uid.unwrap_or_default()),
        }
    }
}

/// All connections that are open.
#[derive(Debug)]
pub(crate) struct Connections {
    accepted_max: usize,
    strangers_max: usize,
    /// How long an accepted request waits for a place.
    wait_max: Duration,
    registry: Mutex<Registry>,
    /// A place may have become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Registry {
    /// Counts up with all that happens, so that what happened first has the lowest number.
    clock: u64,
    /// By when they were opened.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    source: Source,
    /// Whether a request on it was accepted.
    is_accepted: bool,
    /// Accepted requests in progress, one that waits for a place included.
    requests: u32,
    /// Since when there is none.
    since: u64,
    evicted: Arc<Notify>,
}

/// One connection. Its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Arc<Connections>,
    id: u64,
    evicted: Arc<Notify>,
    was_accepted: AtomicBool,
}

/// An accepted request in progress: its connection is not closed for another until this is dropped.
#[derive(Debug)]
pub(crate) struct InProgress(Arc<Connection>);

/// The body of an answer to a request that is in progress until the body has been read.
pub(crate) struct Held<B> {
    pub(crate) body: B,
    pub(crate) _request: Option<InProgress>,
}

impl Connections {
    pub(crate) fn new(accepted_max: usize, strangers_max: usize, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self { accepted_max, strangers_max, wait_max, registry: Mutex::default(), freed: Notify::new() })
    }

    /// A stranger's place for a new connection, if need be that of another. `None` where requests of node admins wait on all of them.
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Option<Arc<Connection>> {
        let mut registry = self.lock();
        if registry.open.values().filter(|open| !open.is_accepted).count() >= self.strangers_max {
            let evicted = registry.stranger_to_evict()?;
            registry.evict(evicted);
        }
        let (id, evicted) = (registry.tick(), Arc::new(Notify::new()));
        let open = Open { source, is_accepted: false, requests: 0, since: id, evicted: evicted.clone() };
        registry.open.insert(id, open);
        Some(Arc::new(Connection { all: self.clone(), id, evicted, was_accepted: AtomicBool::new(false) }))
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing in here panics half-way.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn evict(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            open.evicted.notify_one();
        }
    }

    /// The oldest of the source that has the most of them.
    fn stranger_to_evict(&self) -> Option<u64> {
        let strangers = || self.open.iter().filter(|(_, open)| !open.is_accepted && open.requests == 0);
        let mut of_sources: HashMap<Source, usize> = HashMap::new();
        strangers().for_each(|(_, open)| *of_sources.entry(open.source).or_default() += 1);
        let most = of_sources.values().max()?;
        strangers().find(|(_, open)| of_sources.get(&open.source) == Some(most)).map(|(id, _)| *id)
    }

    /// Gives a connection a place among those with an accepted request, if there is one or one waits for its next request.
    fn accept(&mut self, id: u64, max: usize) -> Accepted {
        match self.open.get(&id) {
            None => return Accepted::Evicted,
            Some(open) if open.is_accepted => return Accepted::Yes,
            Some(_) => {}
        }
        let accepted = || self.open.iter().filter(|(_, open)| open.is_accepted);
        if accepted().count() >= max {
            let waiting = accepted().filter(|(_, open)| open.requests == 0);
            let Some((waits, _)) = waiting.min_by_key(|(_, open)| open.since) else { return Accepted::NotYet };
            let waits = *waits;
            self.evict(waits);
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.is_accepted = true;
        }
        Accepted::Yes
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Accepted {
    Yes,
    NotYet,
    Evicted,
}

impl Connection {
    /// Takes note of a request that is accepted, and waits until the connection has a place among those that have one.
    ///
    /// # Errors
    /// When there is none in time, or the connection was just closed for another.
    pub(crate) async fn accept(self: &Arc<Self>) -> Result<InProgress, ApiProblem> {
        let full = || {
            let title = format!("all {} connections of the admin API have requests in progress", self.all.accepted_max);
            ApiProblem::new(ProblemKind::Quota, title).hint("ask again when one of them is over")
        };
        {
            let mut registry = self.all.lock();
            registry.open.get_mut(&self.id).ok_or_else(full)?.requests += 1;
        }
        let request = InProgress(self.clone());
        let placed = async {
            loop {
                let mut freed = pin!(self.all.freed.notified());
                // From now on: one that is freed before it is looked is not missed.
                freed.as_mut().enable();
                let accepted = self.all.lock().accept(self.id, self.all.accepted_max);
                match accepted {
                    Accepted::Yes => return true,
                    Accepted::Evicted => return false,
                    Accepted::NotYet => freed.await,
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

    /// Resolves when it is to be closed for another: with whether no request on it was ever accepted.
    pub(crate) async fn evicted(&self) -> bool {
        self.evicted.notified().await;
        !self.was_accepted.load(Ordering::Relaxed)
    }

    /// Whether no request on it was accepted yet, nor is being.
    pub(crate) fn is_strangers(&self) -> bool {
        self.all.lock().open.get(&self.id).is_some_and(|open| !open.is_accepted && open.requests == 0)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.id);
        self.all.freed.notify_waiters();
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let Connection { all, id, .. } = &*self.0;
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

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> Source {
        Source::Network(ClientNetwork::of([192, 0, 2, last].into()))
    }

    fn is_evicted(connection: &Connection) -> bool {
        !connection.all.lock().open.contains_key(&connection.id)
    }

    fn connections(accepted_max: usize, strangers_max: usize) -> Arc<Connections> {
        Connections::new(accepted_max, strangers_max, Duration::from_secs(60))
    }

    #[test]
    fn a_network_is_one_source() {
        let source = |peer: &str| Source::of(&Who { peer: Some(peer.parse().unwrap()), ..Who::default() });
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:2]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(source("[::ffff:192.0.2.1]:1"), address(1));
        assert_eq!(Source::of(&Who { uid: Some(7), ..Who::default() }), Source::User(7));
    }

    #[test]
    fn a_stranger_is_closed_for_the_next_and_first_of_whoever_has_the_most() {
        let all = connections(2, 4);
        let modest = all.enter(address(1)).unwrap();
        let greedy: Vec<_> = (0..3).map(|_| all.enter(address(2)).unwrap()).collect();
        let next = all.enter(address(3)).unwrap();
        assert!(is_evicted(&greedy[0]) && greedy[0].evicted().now_or_never().is_some());
        assert!(![&modest, &greedy[1], &greedy[2], &next].into_iter().any(|open| is_evicted(open)));
        let _more: Vec<_> = (0..20).map(|_| all.enter(address(2)).unwrap()).collect();
        assert!(!is_evicted(&modest) && !is_evicted(&next), "it closes its own");
        assert!(modest.is_strangers() && !greedy[0].is_strangers());
    }

    #[tokio::test]
    async fn strangers_do_not_close_a_connection_with_an_accepted_request() {
        let all = connections(2, 1);
        let known = all.enter(address(1)).unwrap();
        drop(known.accept().await.unwrap());
        for _ in 0..5 {
            all.enter(address(1)).unwrap();
        }
        assert!(!is_evicted(&known) && !known.is_strangers());
        drop(known.accept().await.unwrap());
        // Nor one whose request waits for a place.
        let busy = all.enter(address(1)).unwrap();
        let requests = [known.accept().await.unwrap(), busy.accept().await.unwrap()];
        let waits = all.enter(address(1)).unwrap();
        let mut waiting = pin!(waits.accept());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(all.enter(address(2)).is_none(), "the only place of strangers waits");
        drop(requests);
        drop(waiting.await.unwrap());
        assert!(is_evicted(&known) && !is_evicted(&busy), "the one that waited longest for its next request");
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_is_closed_for_one_with_a_request() {
        let all = connections(2, 2);
        let open = [all.enter(address(1)).unwrap(), all.enter(address(1)).unwrap()];
        let first = open[0].accept().await.unwrap();
        drop(open[1].accept().await.unwrap());
        drop(first);
        let next = all.enter(address(1)).unwrap();
        let _request = next.accept().await.unwrap();
        assert_eq!(open.each_ref().map(|open| is_evicted(open)), [false, true]);
        assert!(open[1].accept().await.is_err(), "it is being closed");
        drop((open, next));
    }

    #[tokio::test]
    async fn nothing_is_left_of_what_is_closed() {
        let all = connections(1, 2);
        let connection = all.enter(address(1)).unwrap();
        let request = connection.accept().await.unwrap();
        drop(connection);
        assert_eq!(all.lock().open.len(), 1, "the answer is not out yet");
        drop(request);
        assert!(all.lock().open.is_empty());
    }
}
