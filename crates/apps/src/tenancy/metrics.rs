//! The metrics of tenants and apps whose values are read when a snapshot is made: quotas and their use, and the apps in
//! memory.

use std::sync::Arc;

use isomer_api::Quotas;
use isomer_telemetry::metrics::{MetricDescriptor, MetricSource, MetricValue, Snapshot, catalog};

use super::Inner;
use super::tenant::Tenant;

impl MetricSource for Inner {
    fn collect(&self, snapshot: &mut Snapshot) {
        let (registered, loaded_apps) = (self.registry.counts(), self.loader.loaded_apps());
        let mut push = |metric, number| snapshot.push(metric, vec![], MetricValue::integer(number));
        push(&catalog::TENANTS, registered.tenants as u64);
        push(&catalog::APPS, registered.apps as u64);
        push(&catalog::APPS_LOADED, loaded_apps.permits_in_use() as u64);
        push(&catalog::APP_LOADS, self.loader.loads());
        push(&catalog::APP_EVICTIONS, loaded_apps.evictions());
        if loaded_apps.max() != usize::MAX {
            push(&catalog::APPS_LOADED_LIMIT, loaded_apps.max() as u64);
        }
        for tenant in self.registry.tenants() {
            if snapshot.includes(tenant.name.as_str()) {
                tenant.collect(snapshot);
            }
        }
        for app in self.registry.apps() {
            if snapshot.includes(app.tenant.name.as_str()) {
                app.lifecycle.read(|loaded| loaded.revision.collect_metrics(snapshot));
            }
        }
    }
}

impl Tenant {
    fn collect(&self, snapshot: &mut Snapshot) {
        let (usage, quotas) = (self.usage(), self.quotas());
        let name = self.name.shared();
        let mut push = |metric: &'static MetricDescriptor, value| {
            snapshot.push(metric, vec![name.clone()], value);
        };
        push(&catalog::TENANT_REQUESTS, MetricValue::integer(usage.requests));
        push(&catalog::TENANT_REQUESTS_ACTIVE, MetricValue::integer(usage.requests_now.into()));
        push(&catalog::TENANT_MEMORY, MetricValue::integer(usage.memory_bytes));
        push(&catalog::TENANT_HOST_MEMORY, MetricValue::integer(usage.host_memory_bytes));
        push(&catalog::TENANT_STORAGE, MetricValue::integer(usage.storage_bytes));
        let cpu = std::time::Duration::from_micros(usage.cpu_us);
        push(&catalog::TENANT_CPU, MetricValue::Number(cpu.as_secs_f64()));
        for (metric, limit) in limits(&quotas) {
            push(metric, limit);
        }
        for (quota, times) in &usage.refused {
            let labels = vec![name.clone(), Arc::from(quota.name())];
            snapshot.push(&catalog::TENANT_REFUSED, labels, MetricValue::integer(*times));
        }
    }
}

/// Returns the quotas that are set, each with its metric and its value.
fn limits(quotas: &Quotas) -> impl Iterator<Item = (&'static MetricDescriptor, MetricValue)> {
    let count = |number: u32| (number != u32::MAX).then(|| MetricValue::integer(number.into()));
    let bytes = |number: u64| (number != u64::MAX).then(|| MetricValue::integer(number));
    let cores = |ms: u32| (ms != u32::MAX).then(|| MetricValue::Number(f64::from(ms) / 1000.0));
    let limits = [
        (&catalog::TENANT_REQUESTS_LIMIT, count(quotas.requests_concurrent)),
        (&catalog::TENANT_REQUEST_RATE_LIMIT, count(quotas.requests_per_second)),
        (&catalog::TENANT_MEMORY_LIMIT, bytes(quotas.memory_bytes)),
        (&catalog::TENANT_STORAGE_LIMIT, bytes(quotas.storage_bytes)),
        (&catalog::TENANT_CPU_LIMIT, cores(quotas.cpu_ms_per_second)),
    ];
    limits.into_iter().filter_map(|(metric, limit)| Some((metric, limit?)))
}

#[cfg(test)]
mod tests {
    use isomer_telemetry::metrics::{MetricScope, Metrics};

    use super::*;

    struct Source(Arc<Tenant>);

    impl MetricSource for Source {
        fn collect(&self, snapshot: &mut Snapshot) {
            self.0.collect(snapshot);
        }
    }

    fn names(tenant: Arc<Tenant>) -> Vec<&'static str> {
        let metrics = Metrics::default();
        let source: Arc<dyn MetricSource> = Arc::new(Source(tenant));
        metrics.add_source(Arc::downgrade(&source));
        let snapshot = metrics.snapshot(MetricScope::Tenant("acme".into()));
        snapshot.families().map(|family| family.descriptor.name).collect()
    }

    #[test]
    fn only_quotas_that_limit_something_are_shown() {
        let limited = names(Tenant::new("acme".parse().unwrap(), &Quotas::default()).unwrap());
        assert!(limited.contains(&"isomer.tenant.memory.limit") && limited.contains(&"isomer.tenant.cpu.limit"));
        let unlimited = names(Tenant::own("acme".parse().unwrap()));
        assert!(unlimited.contains(&"isomer.tenant.memory.usage"), "{unlimited:?}");
        assert!(!unlimited.iter().any(|name| name.ends_with("limit")), "{unlimited:?}");
    }
}
