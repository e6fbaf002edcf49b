//! What the guests of one tenant use together, and how much of it they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Limits over all groups that share an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// Bytes of linear memory and tables of all live instances.
    pub memory_bytes: u64,
    /// Processor time in a second of the clock, in the long run: more than a second is more than a core.
    pub cpu_per_second: Duration,
}

impl AccountLimits {
    /// None but those of each group.
    pub const UNLIMITED: Self = Self { memory_bytes: u64::MAX, cpu_per_second: Duration::MAX };
}

/// The guests of one tenant. All groups of all its apps hold the same one.
#[derive(Debug)]
pub struct Account {
    tenant: Arc<str>,
    memory_bytes_max: AtomicU64,
    cpu_ns_per_second: AtomicU64,
    memory_bytes: AtomicU64,
    cpu_ns: AtomicU64,
    refused_memory: AtomicU64,
    refused_cpu: AtomicU64,
}

/// What an account has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountUse {
    /// Bytes of memory now.
    pub memory_bytes: u64,
    /// Processor time of its guests so far.
    pub cpu: Duration,
    /// Times that memory was refused.
    pub refused_memory: u64,
    /// Times that processor time was refused: requests that did not begin, and guests that were stopped.
    pub refused_cpu: u64,
}

impl Account {
    /// An account of `tenant`.
    #[must_use]
    pub fn new(tenant: Arc<str>, limits: AccountLimits) -> Arc<Self> {
        let account = Self {
            tenant,
            memory_bytes_max: AtomicU64::new(0),
            cpu_ns_per_second: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            refused_memory: AtomicU64::new(0),
            refused_cpu: AtomicU64::new(0),
        };
        account.set_limits(limits);
        Arc::new(account)
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Other limits from now on.
    pub fn set_limits(&self, limits: AccountLimits) {
        self.memory_bytes_max.store(limits.memory_bytes, Ordering::Relaxed);
        let cpu = u64::try_from(limits.cpu_per_second.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns_per_second.store(cpu, Ordering::Relaxed);
    }

    /// What has been counted.
    #[must_use]
    pub fn used(&self) -> AccountUse {
        AccountUse {
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            cpu: Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed)),
            refused_memory: self.refused_memory.load(Ordering::Relaxed),
            refused_cpu: self.refused_cpu.load(Ordering::Relaxed),
        }
    }
}
