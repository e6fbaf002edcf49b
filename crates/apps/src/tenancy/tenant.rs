//! A tenant in memory: the limits on its requests and guests, and its usage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use isomer_api::{Quota, Quotas, TenantUsage};
use isomer_capabilities::StorageAccount;
use isomer_capabilities::outbound::{InvalidHostRule, TenantHosts};
use isomer_ids::TenantName;
use isomer_observe::LogQuota;
use isomer_runtime::{Account, AccountLimits};

use super::admission::{Admission, AdmissionLimits};

/// One tenant. All apps of the tenant share this value.
pub(super) struct Tenant {
    pub(super) name: TenantName,
    pub(super) admission: Arc<Admission>,
    pub(super) account: Arc<Account>,
    pub(super) storage: Arc<StorageAccount>,
    pub(super) log: Arc<LogQuota>,
    quotas: Mutex<Quotas>,
    /// The hosts to which the tenant's apps may send requests; `None` if only the apps' manifests decide.
    pub(super) outbound: Option<Arc<TenantHosts>>,
    /// The number of times that an app was refused because of the tenant's quota.
    pub(super) refused_apps: AtomicU64,
    /// The number of changes to the inputs with which the tenant's apps are started, such as secrets.
    pub(super) inputs: AtomicU64,
}

impl Tenant {
    /// Creates a tenant with quotas.
    ///
    /// # Errors
    /// If the outbound hosts in the quotas are invalid.
    pub(super) fn new(name: TenantName, quotas: &Quotas) -> Result<Arc<Self>, InvalidHostRule> {
        let outbound = TenantHosts::new(quotas.outbound_hosts.as_deref())?;
        Ok(Self::with(name, quotas, Some(Arc::new(outbound))))
    }

    /// Creates the tenant of a process that serves a single app. The tenant has no limits.
    pub(super) fn own(name: TenantName) -> Arc<Self> {
        Self::with(name, &Quotas::unlimited(), None)
    }

    fn with(name: TenantName, quotas: &Quotas, outbound: Option<Arc<TenantHosts>>) -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(admission_limits(quotas), Instant::now()),
            account: Account::new(name.shared(), account_limits(quotas)),
            storage: Arc::new(StorageAccount::new(quotas.storage_bytes)),
            log: LogQuota::new(quotas.log_bytes_per_hour),
            quotas: Mutex::new(quotas.clone()),
            outbound,
            refused_apps: AtomicU64::new(0),
            inputs: AtomicU64::new(0),
            name,
        })
    }

    /// Changes the quotas.
    ///
    /// # Errors
    /// If the outbound hosts in the quotas are invalid. Nothing is changed in this case.
    pub(super) fn set(&self, quotas: &Quotas) -> Result<(), InvalidHostRule> {
        if let Some(outbound) = &self.outbound {
            outbound.set(quotas.outbound_hosts.as_deref())?;
        }
        self.admission.set_limits(admission_limits(quotas));
        self.account.set_limits(account_limits(quotas));
        self.storage.set_limit(quotas.storage_bytes);
        self.log.set(quotas.log_bytes_per_hour);
        self.lock_quotas().clone_from(quotas);
        Ok(())
    }

    /// Returns the quotas.
    pub(super) fn quotas(&self) -> Quotas {
        self.lock_quotas().clone()
    }

    fn lock_quotas(&self) -> MutexGuard<'_, Quotas> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current usage of the tenant, and the totals since the tenant was added.
    pub(super) fn usage(&self) -> TenantUsage {
        let (requests, used) = (self.admission.counts(), self.account.used());
        let refused = [
            (Quota::Memory, used.refused_memory),
            (Quota::Cpu, used.refused_cpu),
            (Quota::ConcurrentRequests, requests.refused_concurrent),
            (Quota::RequestRate, requests.refused_rate),
            (Quota::OutboundHosts, self.outbound.as_ref().map_or(0, |hosts| hosts.refused())),
            (Quota::Storage, self.storage.refused()),
            (Quota::Apps, self.refused_apps.load(Ordering::Relaxed)),
            (Quota::Log, self.log.refused()),
        ];
        TenantUsage {
            memory_bytes: used.memory_bytes,
            host_memory_bytes: used.host_bytes,
            cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
            requests_now: requests.in_flight,
            requests: requests.requests,
            storage_bytes: self.storage.used(),
            refused: refused.into_iter().filter(|(_, times)| *times > 0).collect::<BTreeMap<_, _>>(),
        }
    }
}

fn admission_limits(quotas: &Quotas) -> AdmissionLimits {
    AdmissionLimits {
        concurrent: quotas.requests_concurrent,
        per_second: quotas.requests_per_second,
        burst: quotas.requests_burst,
    }
}

fn account_limits(quotas: &Quotas) -> AccountLimits {
    let cpu_per_second = match quotas.cpu_ms_per_second {
        u32::MAX => Duration::MAX,
        ms => Duration::from_millis(ms.into()),
    };
    AccountLimits { memory_bytes: quotas.memory_bytes, cpu_per_second }
}
