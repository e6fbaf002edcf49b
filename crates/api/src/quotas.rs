//! Quotas: what all apps of a tenant together may use.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The quotas of a tenant. A request that exceeds one is refused with an error of its own and counted in
/// [`TenantUsage::refused`](crate::TenantUsage::refused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Bytes of linear memory and tables of all live instances, and of what the node holds for them and their requests.
    pub memory_bytes: u64,
    /// Milliseconds of processor time per second, averaged over some seconds: 1000 is one core.
    pub cpu_ms_per_second: u32,
    /// Requests that are served at once.
    pub requests_concurrent: u32,
    /// Requests per second, averaged over some time.
    pub requests_per_second: u32,
    /// Requests that may arrive at once after a pause.
    pub requests_burst: u32,
    /// Hosts to which its apps may send requests, written as in a manifest's `grants.http`. A host must be both in this
    /// list and granted. `null` allows every public host that a manifest grants.
    pub outbound_hosts: Option<Vec<String>>,
    /// Bytes that its stores occupy on disk.
    pub storage_bytes: u64,
    /// The number of apps.
    pub apps: u32,
    /// Bytes of log lines that its apps may write per hour. Further lines are dropped and counted.
    pub log_bytes_per_hour: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            cpu_ms_per_second: 1000,
            requests_concurrent: 256,
            requests_per_second: 1000,
            requests_burst: 2000,
            outbound_hosts: None,
            storage_bytes: 1 << 30,
            apps: 20,
            log_bytes_per_hour: 16 << 20,
        }
    }
}

impl Quotas {
    /// Returns quotas without limits, for the single tenant of `isomer run`.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            memory_bytes: u64::MAX,
            cpu_ms_per_second: u32::MAX,
            requests_concurrent: u32::MAX,
            requests_per_second: u32::MAX,
            requests_burst: u32::MAX,
            outbound_hosts: None,
            storage_bytes: u64::MAX,
            apps: u32::MAX,
            log_bytes_per_hour: u64::MAX,
        }
    }
}

/// The kinds of quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// [`Quotas::memory_bytes`].
    Memory,
    /// [`Quotas::cpu_ms_per_second`].
    Cpu,
    /// [`Quotas::requests_concurrent`].
    ConcurrentRequests,
    /// [`Quotas::requests_per_second`].
    RequestRate,
    /// [`Quotas::outbound_hosts`].
    OutboundHosts,
    /// [`Quotas::storage_bytes`].
    Storage,
    /// [`Quotas::apps`].
    Apps,
    /// [`Quotas::log_bytes_per_hour`].
    Log,
}

impl Quota {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Memory,
        Self::Cpu,
        Self::ConcurrentRequests,
        Self::RequestRate,
        Self::OutboundHosts,
        Self::Storage,
        Self::Apps,
        Self::Log,
    ];

    /// Returns the name, as in JSON and in problems.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::ConcurrentRequests => "concurrent-requests",
            Self::RequestRate => "request-rate",
            Self::OutboundHosts => "outbound-hosts",
            Self::Storage => "storage",
            Self::Apps => "apps",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change of quotas. Absent ones stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaChange {
    /// [`Quotas::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// [`Quotas::cpu_ms_per_second`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms_per_second: Option<u32>,
    /// [`Quotas::requests_concurrent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_concurrent: Option<u32>,
    /// [`Quotas::requests_per_second`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// [`Quotas::requests_burst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    /// [`Quotas::outbound_hosts`]; `["*"]` allows every public host again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_hosts: Option<Vec<String>>,
    /// [`Quotas::storage_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// [`Quotas::apps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apps: Option<u32>,
    /// [`Quotas::log_bytes_per_hour`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes_per_hour: Option<u64>,
}

impl QuotaChange {
    /// Applies the change.
    pub fn apply(self, quotas: &mut Quotas) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut quotas.memory_bytes, self.memory_bytes);
        set(&mut quotas.cpu_ms_per_second, self.cpu_ms_per_second);
        set(&mut quotas.requests_concurrent, self.requests_concurrent);
        set(&mut quotas.requests_per_second, self.requests_per_second);
        set(&mut quotas.requests_burst, self.requests_burst);
        set(&mut quotas.storage_bytes, self.storage_bytes);
        set(&mut quotas.apps, self.apps);
        set(&mut quotas.log_bytes_per_hour, self.log_bytes_per_hour);
        if let Some(hosts) = self.outbound_hosts {
            quotas.outbound_hosts = (hosts != ["*"]).then_some(hosts);
        }
    }
}
