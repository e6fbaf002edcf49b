//! Tenants: what is told of them, how they are changed.

use std::collections::BTreeMap;

use isomer_ids::{AppName, HostPattern, TenantName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quotas::{Quota, QuotaChange, Quotas};

/// A tenant as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    /// Its name.
    pub name: TenantName,
    /// What it may use.
    pub quotas: Quotas,
    /// What it uses.
    pub usage: TenantUsage,
    /// Its apps, by name.
    pub apps: Vec<AppName>,
    /// Host names that are its own: nobody else's app can be deployed under them, nor under names below a wildcard.
    pub hosts: Vec<HostPattern>,
    /// The names of its secrets. Their values are never told.
    pub secrets: Vec<String>,
}

/// What a tenant uses now, and has used since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantUsage {
    /// Bytes of memory that count for its quota: linear memories and tables of its live instances, and what the node holds for them.
    pub memory_bytes: u64,
    /// The part of it that the node holds: instances and requests themselves, handles, fields, bodies, values on their way.
    #[serde(default)]
    pub host_memory_bytes: u64,
    /// Processor time of its guests since the node started, in microseconds.
    pub cpu_us: u64,
    /// Requests that are being served.
    pub requests_now: u32,
    /// Requests since the node started, those that were refused too.
    pub requests: u64,
    /// Bytes that its stores take on disk.
    pub storage_bytes: u64,
    /// How often each quota was reached since the node started. A quota that was not is absent.
    pub refused: BTreeMap<Quota, u64>,
}

/// Makes a tenant, or changes it: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantChange {
    /// Its quotas.
    pub quotas: QuotaChange,
    /// All host names that are to be its own, in place of those that were. Those that its apps are deployed under stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
}
