//! The descriptors of all metrics. The reference page `docs/reference/metrics.md` is generated from [`CATALOG`].
//!
//! Names follow OpenTelemetry's semantic conventions (version 1.37) where a convention exists. The others begin with
//! `isomer.`.

use super::buckets::Buckets;
use super::descriptor::{MetricDescriptor, MetricKind, MetricLabel, MetricUnit, Overlap};
use crate::semantics;

/// Defines descriptors, and a list of all of them.
macro_rules! catalog {
    ($($name:ident = $key:literal, $kind:expr, $unit:expr, [$($label:ident),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $name: MetricDescriptor = MetricDescriptor {
            name: $key,
            unit: $unit,
            kind: $kind.0,
            overlap: $kind.1,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// The descriptors of all metrics, in the order of the reference page.
        pub const CATALOG: &[&MetricDescriptor] = &[$(&$name),+];
    };
}

const COUNTER: (MetricKind, Overlap) = (MetricKind::Counter, Overlap::Sum);
const GAUGE: (MetricKind, Overlap) = (MetricKind::Gauge, Overlap::Sum);
const LATEST: (MetricKind, Overlap) = (MetricKind::Gauge, Overlap::Latest);
const REQUESTS: (MetricKind, Overlap) = (MetricKind::Histogram(Buckets::REQUEST), Overlap::Sum);
const CALLS: (MetricKind, Overlap) = (MetricKind::Histogram(Buckets::CALL), Overlap::Sum);
const SECONDS: MetricUnit = MetricUnit::Seconds;
const BYTES: MetricUnit = MetricUnit::Bytes;

const fn count(objects: &'static str) -> MetricUnit {
    MetricUnit::Count(objects)
}

const fn label(name: &'static str, attribute: &'static str, help: &'static str) -> MetricLabel {
    MetricLabel { name, attribute, help }
}

/// The tenant. Only series with this label are shown to the tenant's tokens.
pub const TENANT: MetricLabel = label("tenant", "service.namespace", "The name of the tenant.");
const APP: MetricLabel = label("app", "service.name", "The name of the app.");
const COMPONENT: MetricLabel = label(
    "component",
    "isomer.component",
    "The name of the component; empty if the request was refused before its route was found.",
);
const ROUTE: MetricLabel =
    label("route", semantics::HTTP_ROUTE, "The route, as the manifest writes it. Empty if no route was found.");
const METHOD: MetricLabel =
    label("method", semantics::HTTP_METHOD, "The method of the request, or `_OTHER` for a method that is not common.");
const STATUS: MetricLabel = label(
    "status",
    "isomer.http.status_class",
    "The class of the response's status, such as `2xx`; `cut_off` if the response was not sent completely; `failed` if there was no response.",
);
const GROUP: MetricLabel = label("group", "isomer.group", "The component, or the components of the composition.");
const CALLER: MetricLabel = label("caller", semantics::CALLER, "The component that calls; absent if it is not known.");
const CALLEE: MetricLabel = label("callee", semantics::CALLEE, "The component that is called.");
const INTERFACE: MetricLabel = label("interface", semantics::RPC_SERVICE, "The interface.");
const MODE: MetricLabel = label("mode", semantics::MODE, "`isolated`, `remote` or `fused`.");
const SAMPLED: MetricLabel = label(
    "sampled",
    "isomer.sampled",
    "`true` if only the calls of sampled requests are measured, as for fused calls; otherwise `false`.",
);
const OUTCOME: MetricLabel = label("outcome", semantics::ERROR_TYPE, "`ok`, or the kind of failure.");
const STORE: MetricLabel = label("store", semantics::DB_NAMESPACE, "The name of the store.");
const SYSTEM: MetricLabel =
    label("system", semantics::DB_SYSTEM, "`redb` for key-value stores, `sqlite` for SQL stores.");
const OPERATION: MetricLabel = label("operation", semantics::DB_OPERATION, "The operation.");
const GUEST_METRIC: MetricLabel = label("name", "isomer.app.metric", "The name that the component gave to the metric.");
const GUEST_UNIT: MetricLabel = label("unit", "isomer.app.unit", "The unit that the component states.");
const GUEST_ATTRIBUTES: MetricLabel =
    label("attributes", "isomer.app.attributes", "The attributes of the value, as `key=value`, separated by commas.");
const QUOTA: MetricLabel = label("quota", "isomer.quota", "The quota, as in the admin API.");
const SIGNAL: MetricLabel = label("signal", "isomer.telemetry.signal", "`logs`, `spans`, `traces` or `metrics`.");
const REASON: MetricLabel = label("reason", "isomer.telemetry.reason", "Why the data was dropped.");

/// The label of series that another process of the same app has sent. It is not among the labels of a descriptor: each
/// metric can have it.
pub const PROCESS_LABEL: MetricLabel =
    label("process", "isomer.process", "The group of the shape whose process has sent the value.");

catalog! {
    HTTP_SERVER_DURATION = "http.server.request.duration", REQUESTS, SECONDS,
        [TENANT, APP, COMPONENT, ROUTE, METHOD, STATUS],
        "The time from the arrival of a request's head to the last byte of its response.";
    HTTP_SERVER_ACTIVE = "http.server.active_requests", GAUGE, count("requests"), [TENANT, APP, COMPONENT, ROUTE],
        "The number of requests in progress.";
    SEAM_CALL_DURATION = "rpc.client.call.duration", CALLS, SECONDS,
        [TENANT, APP, CALLER, CALLEE, INTERFACE, MODE, SAMPLED, OUTCOME],
        "The duration of calls across seams, measured by the caller.";
    HTTP_CLIENT_DURATION = "http.client.request.duration", REQUESTS, SECONDS,
        [TENANT, APP, COMPONENT, METHOD, STATUS],
        "The time from the start of a request to an external server to the head of its response.";
    STORE_OPERATION_DURATION = "db.client.operation.duration", CALLS, SECONDS,
        [TENANT, APP, STORE, SYSTEM, OPERATION, OUTCOME],
        "The duration of operations on stores.";
    INSTANCES_LIVE = "isomer.instance.live", GAUGE, count("instances"), [TENANT, APP, GROUP],
        "The number of live instances.";
    INSTANCES_IDLE = "isomer.instance.idle", GAUGE, count("instances"), [TENANT, APP, GROUP],
        "The number of live instances that serve no request.";
    INSTANCE_START_DURATION = "isomer.instance.start.duration", CALLS, SECONDS, [TENANT, APP, GROUP, OUTCOME],
        "The duration of cold starts: the creation of an instance. The count is the number of created instances.";
    INSTANCES_WAITING = "isomer.instance.waiting", GAUGE, count("requests"), [TENANT, APP, GROUP],
        "The number of requests and calls that wait for an instance.";
    INSTANCE_WAIT_DURATION = "isomer.instance.wait.duration", CALLS, SECONDS, [TENANT, APP, GROUP, OUTCOME],
        "The time that requests and calls waited for an instance, if all instances were busy.";
    GROUP_RUNS = "isomer.group.runs", COUNTER, count("runs"), [TENANT, APP, GROUP, SAMPLED],
        "The number of requests and calls that instances of a composition with fused seams have served. `sampled=\"true\"`: their fused calls were measured.";
    GUEST_TOTAL = "isomer.app.amount", COUNTER, count("values"),
        [TENANT, APP, COMPONENT, GUEST_METRIC, GUEST_UNIT, GUEST_ATTRIBUTES],
        "The totals that components report with `wasi:otel`, and the counts and sums of their histograms.";
    GUEST_VALUE = "isomer.app.value", LATEST, count("values"),
        [TENANT, APP, COMPONENT, GUEST_METRIC, GUEST_UNIT, GUEST_ATTRIBUTES],
        "The last values that components report with `wasi:otel`.";
    TENANT_REQUESTS = "isomer.tenant.requests", COUNTER, count("requests"), [TENANT],
        "The number of requests, including refused ones.";
    TENANT_REQUESTS_ACTIVE = "isomer.tenant.requests.active", GAUGE, count("requests"), [TENANT],
        "The number of requests in flight.";
    TENANT_REQUESTS_LIMIT = "isomer.tenant.requests.limit", LATEST, count("requests"), [TENANT],
        "The quota of requests in flight; absent if there is none.";
    TENANT_REQUEST_RATE_LIMIT = "isomer.tenant.requests.rate_limit", LATEST, count("requests"), [TENANT],
        "The quota of requests per second; absent if there is none.";
    TENANT_MEMORY = "isomer.tenant.memory.usage", GAUGE, BYTES, [TENANT],
        "The memory that is charged to the tenant's account.";
    TENANT_HOST_MEMORY = "isomer.tenant.memory.host_usage", GAUGE, BYTES, [TENANT],
        "The part of the charged memory that the platform uses for the tenant's guests.";
    TENANT_MEMORY_LIMIT = "isomer.tenant.memory.limit", LATEST, BYTES, [TENANT],
        "The quota of memory; absent if there is none.";
    TENANT_CPU = "isomer.tenant.cpu.time", COUNTER, SECONDS, [TENANT],
        "The processor time of the tenant's guests and of the platform's work for them.";
    TENANT_CPU_LIMIT = "isomer.tenant.cpu.limit", LATEST, count("cores"), [TENANT],
        "The quota of processor time per second of real time; absent if there is none.";
    TENANT_STORAGE = "isomer.tenant.storage.usage", LATEST, BYTES, [TENANT],
        "The bytes on disk of the tenant's stores, files and logs.";
    TENANT_STORAGE_LIMIT = "isomer.tenant.storage.limit", LATEST, BYTES, [TENANT],
        "The quota of bytes on disk; absent if there is none.";
    TENANT_REFUSED = "isomer.tenant.refused", COUNTER, count("refusals"), [TENANT, QUOTA],
        "The number of times that a quota was reached.";
    TENANTS = "isomer.tenants", LATEST, count("tenants"), [],
        "The number of tenants.";
    APPS = "isomer.apps", LATEST, count("apps"), [],
        "The number of apps.";
    APPS_LOADED = "isomer.apps.loaded", GAUGE, count("apps"), [],
        "The number of apps in memory.";
    APPS_LOADED_LIMIT = "isomer.apps.loaded_limit", LATEST, count("apps"), [],
        "The maximum number of apps in memory; absent if there is none.";
    APP_LOADS = "isomer.apps.loads", COUNTER, count("loads"), [],
        "The number of times that an app was loaded into memory.";
    APP_EVICTIONS = "isomer.apps.evictions", COUNTER, count("evictions"), [],
        "The number of times that an app was evicted from memory.";
    CONNECTIONS = "isomer.front.connections", GAUGE, count("connections"), [],
        "The number of open connections of the front door.";
    CONNECTIONS_EVICTED = "isomer.front.connections.evicted", COUNTER, count("connections"), [],
        "The number of idle connections that were closed to make room for new ones.";
    CONNECTIONS_REFUSED = "isomer.front.connections.refused", COUNTER, count("connections"), [],
        "The number of connections that were refused because every other connection had a request in progress.";
    TELEMETRY_DROPPED = "isomer.telemetry.dropped", COUNTER, count("items"), [SIGNAL, REASON],
        "The number of log lines, spans, traces and series that were dropped.";
    TELEMETRY_SERIES = "isomer.telemetry.series", GAUGE, count("series"), [],
        "The number of series that are recorded.";
    PROCESS_MEMORY = "process.memory.usage", GAUGE, BYTES, [],
        "The resident memory of the process.";
    PROCESS_CPU = "process.cpu.time", COUNTER, SECONDS, [],
        "The processor time of the process.";
    PROCESS_DESCRIPTORS = "process.unix.file_descriptor.count", GAUGE, count("descriptors"), [],
        "The number of open file descriptors of the process.";
    PROCESS_THREADS = "process.thread.count", GAUGE, count("threads"), [],
        "The number of threads of the process.";
    PROCESS_START = "process.start_time", LATEST, SECONDS, [],
        "The time at which the process started, since the Unix epoch.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_valid_and_every_metric_has_a_meaning() {
        let mut names = BTreeSet::new();
        for metric in CATALOG {
            assert!(names.insert(metric.prometheus_name()), "{}", metric.name);
            assert!(metric.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'.' | b'_')), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\\', '\n']), "{}", metric.name);
            let labels: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            let is_gauge = metric.kind == MetricKind::Gauge;
            assert!(is_gauge || metric.overlap == Overlap::Sum, "{}: totals add up", metric.name);
            let is_limit = metric.name.ends_with("limit");
            assert!(!is_limit || metric.overlap == Overlap::Latest, "{}: limits do not add up", metric.name);
            let tenant = metric.labels.iter().position(|label| *label == TENANT);
            assert!(tenant.is_none_or(|position| position == 0), "{}: `tenant` is the first label", metric.name);
        }
    }
}
