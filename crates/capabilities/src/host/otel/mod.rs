//! `wasi:otel`: spans, records and metrics that guests emit.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `types` | the types of the WIT package |
//! | `values` | the values of attributes, which are JSON |
//! | `spans` | the spans that a guest has started: their ids and their parents |
//! | `tracing`, `logs`, `metrics` | the functions of the interfaces |
//! | `totals` | the totals that a guest reported last |
//!
//! No grant is needed: what a guest emits reaches only the log, the traces and the metrics of its app. A guest cannot
//! imitate the platform or another request. Its spans belong to the trace of the request that the guest serves, whatever
//! ids it states; they get ids of the platform; and their parents are spans of the same request. Keys that begin with
//! `isomer.` are dropped.

mod logs;
mod metrics;
mod spans;
mod totals;
mod tracing;
mod types;
mod values;

use std::sync::Arc;

use isomer_runtime::{Guest, HostMemory, InterfaceOwner, Provider};
use isomer_telemetry::metrics::{GuestMetrics, SeriesGroup};
use wasmtime::component::LinkerInstance;

use self::spans::GuestSpans;
use self::totals::ReportedTotals;
use super::{owner_name, split};

/// The number of bytes that are charged for the state of an instance: an upper bound on its size.
const STATE_BYTES: usize = 64 << 10;

/// Provides `wasi:otel/{tracing,logs,metrics}`.
#[derive(Debug, Clone, Default)]
pub struct OtelProvider {
    series: Arc<SeriesGroup>,
}

/// What one instance has reported.
struct InstanceTelemetry {
    spans: GuestSpans,
    totals: ReportedTotals,
    _memory: HostMemory,
}

impl OtelProvider {
    /// Creates the provider. The guests' metrics become series of `series`.
    pub fn new(series: Arc<SeriesGroup>) -> Self {
        Self { series }
    }
}

impl Provider for OtelProvider {
    fn provides(&self, interface: &str) -> bool {
        let (path, version) = split(interface);
        let is_known = matches!(path, "wasi:otel/tracing" | "wasi:otel/logs" | "wasi:otel/metrics" | "wasi:otel/types");
        is_known && version == "0.2.0-rc.2"
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        let component = owner_name(owner);
        match split(interface).0 {
            "wasi:otel/tracing" => tracing::link(instance, &component),
            "wasi:otel/logs" => logs::link(instance, &component),
            "wasi:otel/metrics" => metrics::link(instance, GuestMetrics::new(self.series.clone(), component)),
            // `types` has no functions.
            _ => Ok(()),
        }
    }
}

/// Returns what the instance has reported; `None` if its account has no memory for this. The guest's telemetry is then
/// less precise: telemetry must not make a request fail.
fn state(guest: &mut Guest) -> Option<&mut InstanceTelemetry> {
    if guest.provider_state::<InstanceTelemetry>().is_none() {
        let memory = guest.account().charge_host_memory(STATE_BYTES).ok()?;
        let state =
            InstanceTelemetry { spans: GuestSpans::default(), totals: ReportedTotals::default(), _memory: memory };
        *guest.provider_state() = Some(state);
    }
    guest.provider_state().as_mut()
}
