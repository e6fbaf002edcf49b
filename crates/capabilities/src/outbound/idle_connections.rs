//! Idle connections between two requests of one component to the same server.
//!
//! Idle connections belong to one component of one revision, so another tenant can never use them. Their number is
//! bounded for each component and for each tenant, and so is their age. Their memory is charged to the tenant; a
//! connection is closed instead of kept if the tenant has no memory left.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use isomer_runtime::{Account, HostMemory};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Destination;
use super::http_connection::HttpConnection;
use crate::pool::locked;

/// The memory of an idle connection: the buffers of TLS and of both directions.
const IDLE_BYTES: usize = 128 << 10;

/// The idle connections of a component.
pub(super) struct IdleConnections {
    idle: Mutex<IdleList>,
    component_max: usize,
    time: Duration,
    tenant: Arc<Semaphore>,
    account: OnceLock<Arc<Account>>,
}

#[derive(Default)]
struct IdleList {
    /// The connections, in the order of their last use.
    connections: Vec<IdleConnection>,
    /// Whether a task that closes expired connections is running.
    watched: bool,
}

struct IdleConnection {
    to: Destination,
    line: HttpConnection,
    since: Instant,
    _permit: OwnedSemaphorePermit,
    _memory: Option<HostMemory>,
}

impl IdleConnections {
    /// Creates a set of at most `component_max` connections, each for at most `time`, and at most as many as `tenant`
    /// has permits.
    pub(super) fn new(component_max: usize, time: Duration, tenant: Arc<Semaphore>) -> Arc<Self> {
        let (idle, account) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { idle, component_max, time, tenant, account })
    }

    /// Sets the account that the memory of these connections is charged to.
    pub(super) fn charge_to(&self, account: Arc<Account>) {
        // The account of a component never changes, so a later call has no effect.
        let _ = self.account.set(account);
    }

    /// Returns a connection to `to` that was used within the last `time`, and whose address is still `allowed`.
    pub(super) fn take(
        &self,
        to: &Destination,
        time: Duration,
        allowed: impl Fn(IpAddr) -> bool,
    ) -> Option<HttpConnection> {
        let mut idle = locked(&self.idle);
        self.close_old(&mut idle);
        let fits = |it: &IdleConnection| it.to == *to && it.since.elapsed() < time && allowed(it.line.address());
        let at = idle.connections.iter().rposition(fits)?;
        Some(idle.connections.remove(at).line)
    }

    /// Keeps a connection if there is room for it; otherwise closes it.
    pub(super) fn put(self: &Arc<Self>, runtime: &Handle, to: Destination, line: HttpConnection) {
        let mut idle = locked(&self.idle);
        self.close_old(&mut idle);
        if self.component_max == 0 {
            return;
        }
        if idle.connections.len() >= self.component_max {
            drop(idle.connections.remove(0));
        }
        let Ok(permit) = self.tenant.clone().try_acquire_owned() else { return };
        let memory = match self.account.get() {
            Some(account) => match charge(account) {
                Some(memory) => Some(memory),
                None => return,
            },
            None => None,
        };
        idle.connections.push(IdleConnection { to, line, since: Instant::now(), _permit: permit, _memory: memory });
        if !std::mem::replace(&mut idle.watched, true) {
            let (set, mut until) = (Arc::downgrade(self), Instant::now() + self.time);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep_until(until).await;
                    let Some(set) = set.upgrade() else { return };
                    let mut idle = locked(&set.idle);
                    set.close_old(&mut idle);
                    // The first connection is the least recently used.
                    let Some(oldest) = idle.connections.first() else {
                        idle.watched = false;
                        return;
                    };
                    until = oldest.since + set.time;
                }
            });
        }
    }

    fn close_old(&self, idle: &mut IdleList) {
        idle.connections.retain(|it| !it.line.is_closed() && it.since.elapsed() < self.time);
    }
}

/// Charges a connection if there is memory for it. Does not evict instances to make room.
fn charge(account: &Arc<Account>) -> Option<HostMemory> {
    let room = account.memory_bytes_max().saturating_sub(account.used().memory_bytes);
    if room < IDLE_BYTES as u64 { None } else { account.charge_host_memory(IDLE_BYTES).ok() }
}
