//! Tenants: their quotas, usage and host names, and the request to change a tenant.

use std::collections::BTreeMap;

use isomer_ids::{AppName, HostPattern, TenantName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quotas::{Quota, QuotaChange, Quotas};

/// A tenant, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    /// The tenant's name.
    pub name: TenantName,
    /// The tenant's quotas.
    pub quotas: Quotas,
    /// The tenant's usage of its quotas.
    pub usage: TenantUsage,
    /// The names of the tenant's apps.
    pub apps: Vec<AppName>,
    /// The host names that the tenant owns. Other tenants cannot deploy apps under these names, or under names that a
    /// wildcard in this list matches.
    pub hosts: Vec<HostPattern>,
    /// The names of the tenant's secrets. The API never returns their values.
    pub secrets: Vec<String>,
}

/// The current usage of a tenant, and its totals since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantUsage {
    /// The memory that is charged to the tenant, in bytes: linear memories and tables of live instances, and the memory
    /// that the node itself needs for these instances and their requests.
    pub memory_bytes: u64,
    /// The part of `memory_bytes` that the node itself needs. For example, the node needs memory for its records of
    /// instances and requests, for handles, header fields and bodies, and for values in transit.
    #[serde(default)]
    pub host_memory_bytes: u64,
    /// The processor time that the tenant's guests used since the node started, in microseconds.
    pub cpu_us: u64,
    /// The number of requests in flight.
    pub requests_now: u32,
    /// The number of requests since the node started, including refused ones.
    pub requests: u64,
    /// The disk space in bytes that is charged to the tenant, for example for stores and writable folders.
    pub storage_bytes: u64,
    /// The number of times that each quota was reached since the node started. Quotas that were not reached are absent.
    pub refused: BTreeMap<Quota, u64>,
}

/// The request to create or change a tenant. Absent values stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantChange {
    /// The quotas to change.
    pub quotas: QuotaChange,
    /// The new list of all host names that the tenant owns. The tenant's apps keep the host names under which they are
    /// deployed, even if the list omits these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
}
