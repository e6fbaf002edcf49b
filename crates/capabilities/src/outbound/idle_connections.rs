//! The idle connections of a component, for the next requests of the component to the same servers.
//!
//! Idle connections belong to one component of one revision, so another tenant can never use them. Their number is
//! limited per component and per tenant, and their age is limited too. Their memory is charged to the tenant. If the
//! tenant does not have enough memory, a connection is closed instead of kept.

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

/// The number of bytes that are charged for an idle connection: the buffers of TLS and of both directions.
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
    /// The idle connections, least recently used first.
    connections: Vec<IdleConnection>,
    /// Whether a task is running that closes expired connections.
    has_expiry_task: bool,
}

struct IdleConnection {
    to: Destination,
    connection: HttpConnection,
    since: Instant,
    _permit: OwnedSemaphorePermit,
    _memory: Option<HostMemory>,
}

impl IdleConnections {
    /// Creates an empty set. Keeps at most `component_max` connections, each at most for `time`. Each kept connection
    /// also needs a permit of `tenant`.
    pub(super) fn new(component_max: usize, time: Duration, tenant: Arc<Semaphore>) -> Arc<Self> {
        let (idle, account) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { idle, component_max, time, tenant, account })
    }

    /// Sets the account to which the memory of the idle connections is charged.
    pub(super) fn charge_to(&self, account: Arc<Account>) {
        // Ignores later calls, because the account of a component never changes.
        let _ = self.account.set(account);
    }

    /// Removes and returns a connection to `to` that was used within the last `time`, and whose address is still
    /// `allowed`.
    pub(super) fn take(
        &self,
        to: &Destination,
        time: Duration,
        allowed: impl Fn(IpAddr) -> bool,
    ) -> Option<HttpConnection> {
        let mut idle = locked(&self.idle);
        self.close_old(&mut idle);
        let fits = |it: &IdleConnection| it.to == *to && it.since.elapsed() < time && allowed(it.connection.address());
        let at = idle.connections.iter().rposition(fits)?;
        Some(idle.connections.remove(at).connection)
    }

    /// Keeps a connection. If the component already has the maximum number of idle connections, closes the least
    /// recently used one first. Closes `connection` instead of keeping it if the component may keep none, if the tenant
    /// has the maximum number, or if the tenant does not have enough memory.
    pub(super) fn put(self: &Arc<Self>, runtime: &Handle, to: Destination, connection: HttpConnection) {
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
        idle.connections.push(IdleConnection {
            to,
            connection,
            since: Instant::now(),
            _permit: permit,
            _memory: memory,
        });
        if !std::mem::replace(&mut idle.has_expiry_task, true) {
            let (set, mut until) = (Arc::downgrade(self), Instant::now() + self.time);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep_until(until).await;
                    let Some(set) = set.upgrade() else { return };
                    let mut idle = locked(&set.idle);
                    set.close_old(&mut idle);
                    // The first connection is the least recently used one.
                    let Some(oldest) = idle.connections.first() else {
                        idle.has_expiry_task = false;
                        return;
                    };
                    until = oldest.since + set.time;
                }
            });
        }
    }

    fn close_old(&self, idle: &mut IdleList) {
        idle.connections.retain(|it| !it.connection.is_closed() && it.since.elapsed() < self.time);
    }
}

/// Charges the memory of an idle connection. Returns `None` if the account does not have enough memory left. Evicts no
/// idle instances to free memory.
fn charge(account: &Arc<Account>) -> Option<HostMemory> {
    let room = account.memory_bytes_max().saturating_sub(account.used().memory_bytes);
    if room < IDLE_BYTES as u64 { None } else { account.charge_host_memory(IDLE_BYTES).ok() }
}
