//! `isomer:probe/probe`, through which a probed composition reports each call over a fused seam. The reports become
//! spans and metrics.
//!
//! All components of a composition share the import. Its functions give access to nothing: they only report calls of
//! the instance itself.

use std::sync::Arc;

use isomer_telemetry::SpanTemplate;
use isomer_telemetry::metrics::{SeamLabels, SeamMetrics, SeriesGroup};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::provider::{InterfaceOwner, Provider};
use crate::guest::{Guest, PROBED_TASKS_MAX};
use crate::seam::fused_span;

/// The interface that probed components import.
const INTERFACE: &str = "isomer:probe/probe@1.0.0";

/// The probed functions of a group. Pass it to the group as one of its providers.
#[derive(Debug, Clone)]
pub struct SeamProbes(Arc<[ProbedSeam]>);

/// A probed function with its span and its metrics.
#[derive(Debug, Clone)]
struct ProbedSeam {
    function: ProbedFunction,
    span: Arc<SpanTemplate>,
    metrics: Arc<SeamMetrics>,
}

/// A function whose calls over fused seams are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedFunction {
    /// The called component.
    pub callee: Arc<str>,
    /// The interface of the function, without its version.
    pub interface: Arc<str>,
    /// The name of the function.
    pub function: Arc<str>,
}

impl SeamProbes {
    /// Returns the probes of a composition. The order of `functions` is the order of the numbers under which the
    /// composition reports their calls.
    pub fn new(functions: impl IntoIterator<Item = ProbedFunction>) -> Self {
        let seam = |function: ProbedFunction| ProbedSeam {
            span: Arc::new(fused_span(&function.callee, &function.interface, &function.function)),
            metrics: Arc::default(),
            function,
        };
        Self(functions.into_iter().map(seam).collect())
    }

    /// Measures the calls in `series`. The label `caller` is absent, because a probe knows only the callee.
    #[must_use]
    pub fn measured_in(&self, series: &Arc<SeriesGroup>) -> Self {
        let measured = |seam: &ProbedSeam| {
            let (callee, interface) = (seam.function.callee.clone(), seam.function.interface.clone());
            let labels = SeamLabels { caller: "".into(), callee, interface, mode: "fused", is_sampled: true };
            ProbedSeam { metrics: SeamMetrics::new(series.clone(), labels), ..seam.clone() }
        };
        Self(self.0.iter().map(measured).collect())
    }

    fn get(&self, function: u32) -> Option<&ProbedSeam> {
        self.0.get(usize::try_from(function).ok()?)
    }
}

impl Provider for SeamProbes {
    fn provides(&self, interface: &str) -> bool {
        interface == INTERFACE
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        _interface: &str,
        _owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        let (entered, exited) = (self.clone(), self.clone());
        instance.func_wrap("enter", move |mut store: StoreContextMut<'_, Guest>, (function,): (u32,)| {
            if let Some(seam) = entered.get(function)
                && store.data().is_sampled()
            {
                let tasks = store.async_call_stack()?.take(PROBED_TASKS_MAX).collect::<Vec<_>>();
                store.data_mut().enter_probed_call(&tasks, &seam.span);
            }
            Ok(())
        })?;
        instance.func_wrap("exit", move |mut store: StoreContextMut<'_, Guest>, (function,): (u32,)| {
            if let Some(seam) = exited.get(function)
                && store.data().is_sampled()
            {
                let task = store.async_call_stack()?.next();
                if let Some(task) = task {
                    store.data_mut().exit_probed_call(task, &seam.metrics);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_the_one_that_compositions_import() {
        let wit = include_str!("../../../seam/wit/probe.wit");
        let (package, version) = INTERFACE.split_once('@').expect("the id has a version");
        let (package, interface) = package.split_once('/').expect("the id names an interface");
        assert!(wit.contains(&format!("package {package}@{version};")));
        assert!(wit.contains(&format!("interface {interface} {{")));
        let probes = SeamProbes::new([]);
        assert!(probes.provides(INTERFACE));
        assert!(!probes.provides("isomer:probe/probe@2.0.0"));
    }
}
