//! Quotas: limits on the resources that all apps of a tenant use together.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The quotas of a tenant. A request that exceeds a quota is refused with an error that names the quota, and is counted
/// in [`TenantUsage::refused`](crate::TenantUsage::refused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// The maximum memory in bytes: linear memories and tables of all live instances, and the memory that the node
    /// itself needs for these instances and their requests.
    pub memory_bytes: u64,
    /// The maximum processor time in milliseconds per second, averaged over a few seconds: 1000 is one core.
    pub cpu_ms_per_second: u32,
    /// The maximum number of requests that are served at the same time.
    pub requests_concurrent: u32,
    /// The maximum average number of requests per second.
    pub requests_per_second: u32,
    /// The maximum number of requests that the tenant may start at once after a period without requests. Further
    /// requests are limited by `requests_per_second`.
    pub requests_burst: u32,
    /// The hosts to which the tenant's apps may send requests, written as in a manifest's `grants.http`. An app reaches
    /// a host only if the list contains the host and the manifest grants it. `null` allows every public host that a
    /// manifest grants.
    pub outbound_hosts: Option<Vec<String>>,
    /// The maximum disk space in bytes that is charged to the tenant, for example for stores and writable folders.
    pub storage_bytes: u64,
    /// The maximum number of apps.
    pub apps: u32,
    /// The maximum number of bytes of log lines that the tenant's apps may write per hour. Further lines are dropped
    /// and counted.
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
    /// The quota [`Quotas::memory_bytes`].
    Memory,
    /// The quota [`Quotas::cpu_ms_per_second`].
    Cpu,
    /// The quota [`Quotas::requests_concurrent`].
    ConcurrentRequests,
    /// The quota [`Quotas::requests_per_second`].
    RequestRate,
    /// The quota [`Quotas::outbound_hosts`].
    OutboundHosts,
    /// The quota [`Quotas::storage_bytes`].
    Storage,
    /// The quota [`Quotas::apps`].
    Apps,
    /// The quota [`Quotas::log_bytes_per_hour`].
    Log,
}

impl Quota {
    /// All kinds of quotas.
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

    /// Returns the quota's name in JSON and in error messages.
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

/// A change of quotas. Absent quotas stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaChange {
    /// The new [`Quotas::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The new [`Quotas::cpu_ms_per_second`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms_per_second: Option<u32>,
    /// The new [`Quotas::requests_concurrent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_concurrent: Option<u32>,
    /// The new [`Quotas::requests_per_second`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// The new [`Quotas::requests_burst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    /// The new [`Quotas::outbound_hosts`]. `["*"]` removes the restriction, so that every public host is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_hosts: Option<Vec<String>>,
    /// The new [`Quotas::storage_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// The new [`Quotas::apps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apps: Option<u32>,
    /// The new [`Quotas::log_bytes_per_hour`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes_per_hour: Option<u64>,
}

impl QuotaChange {
    /// Applies the change to `quotas`. Absent values stay unchanged.
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
