//! Tenants: their state, and changes of them.

use std::collections::BTreeMap;

use isomer_ids::{AppName, HostPattern, TenantName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quotas::{Quota, QuotaChange, Quotas};

/// A tenant, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    /// Its name.
    pub name: TenantName,
    /// The quotas.
    pub quotas: Quotas,
    /// The current usage.
    pub usage: TenantUsage,
    /// The names of its apps.
    pub apps: Vec<AppName>,
    /// The host names that the tenant owns. Apps of other tenants cannot be deployed under them, nor under names that
    /// one of its wildcards matches.
    pub hosts: Vec<HostPattern>,
    /// The names of its secrets. The values cannot be read.
    pub secrets: Vec<String>,
}

/// What a tenant uses now, and has used since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantUsage {
    /// Bytes of memory that count for the quota: linear memories and tables of live instances, and what the node holds
    /// for them.
    pub memory_bytes: u64,
    /// The part of `memory_bytes` that the node holds: instances and requests themselves, handles, header fields,
    /// bodies, values in transit.
    #[serde(default)]
    pub host_memory_bytes: u64,
    /// Processor time of its guests since the node started, in microseconds.
    pub cpu_us: u64,
    /// The number of requests that are being served.
    pub requests_now: u32,
    /// The number of requests since the node started, including refused ones.
    pub requests: u64,
    /// Bytes that its stores occupy on disk.
    pub storage_bytes: u64,
    /// How often each quota was reached since the node started. Quotas that were not reached are absent.
    pub refused: BTreeMap<Quota, u64>,
}

/// The request to create or change a tenant. What is absent stays unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantChange {
    /// The changed quotas.
    pub quotas: QuotaChange,
    /// All host names that the tenant is to own, replacing the previous ones. Those under which its apps are deployed
    /// stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
}
