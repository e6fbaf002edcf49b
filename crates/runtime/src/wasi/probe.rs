//! `isomer:probe/probe`, through which a probed composition reports each call over a fused seam. The reports become
//! spans and metrics.
//!
//! All components of a composition share the import. Its functions give access to nothing: they only report calls of
//! the instance itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use isomer_telemetry::SpanTemplate;
use isomer_telemetry::metrics::{SeamLabels, SeamMetrics, SeriesGroup};
use wasmtime::component::LinkerInstance;
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::provider::{InterfaceOwner, Provider};
use crate::guest::{Guest, StartingCall, end_fused_call};
use crate::seam::fused_span;

/// The interface that probed components import.
pub(crate) const INTERFACE: &str = "isomer:probe/probe@1.0.0";

/// The probed functions of a group. Pass it to the group with its probed code.
#[derive(Debug, Clone)]
pub struct SeamProbes(Arc<[ProbedSeam]>);

/// A probed function with its callers.
#[derive(Debug)]
struct ProbedSeam {
    callee: Arc<str>,
    callers: Box<[ProbedCaller]>,
    /// Used if it is not known which of several callers makes a call.
    unknown: ProbedCaller,
}

/// A component that calls a probed function, with the spans and the metrics of its calls.
#[derive(Debug)]
struct ProbedCaller {
    component: Arc<str>,
    span: Arc<SpanTemplate>,
    metrics: Arc<SeamMetrics>,
}

/// A function whose calls over fused seams are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedFunction {
    /// The components that call the function over fused seams.
    pub callers: Vec<Arc<str>>,
    /// The called component.
    pub callee: Arc<str>,
    /// The interface of the function, without its version.
    pub interface: Arc<str>,
    /// The name of the function.
    pub function: Arc<str>,
}

impl SeamProbes {
    /// Returns the probes of a composition, whose calls are measured in `series`. The order of `functions` is the order
    /// of the numbers under which the composition reports their calls.
    pub fn new(functions: impl IntoIterator<Item = ProbedFunction>, series: &Arc<SeriesGroup>) -> Self {
        let mut metrics = BTreeMap::new();
        let mut caller = |component: Arc<str>, function: &ProbedFunction| {
            let ProbedFunction { callee, interface, function, .. } = function;
            let seam = (component.clone(), callee.clone(), interface.clone());
            // All functions of an interface share the metrics of the seam.
            let metrics = metrics.entry(seam).or_insert_with(|| {
                let (caller, callee, interface) = (component.clone(), callee.clone(), interface.clone());
                let labels = SeamLabels { caller, callee, interface, mode: "fused", is_sampled: true };
                SeamMetrics::new(series.clone(), labels)
            });
            let span = Arc::new(fused_span(&component, callee, interface, function));
            ProbedCaller { component, span, metrics: metrics.clone() }
        };
        let mut seam = |function: ProbedFunction| ProbedSeam {
            callers: function.callers.iter().map(|component| caller(component.clone(), &function)).collect(),
            unknown: caller("".into(), &function),
            callee: function.callee,
        };
        Self(functions.into_iter().map(&mut seam).collect())
    }

    fn get(&self, function: u32) -> Option<&ProbedSeam> {
        self.0.get(usize::try_from(function).ok()?)
    }
}

impl ProbedSeam {
    /// Returns the caller of a call. `component` is the component that is assumed to make the call.
    fn caller(&self, component: Option<&Arc<str>>) -> &ProbedCaller {
        match &*self.callers {
            [only] => only,
            callers => callers.iter().find(|it| Some(&it.component) == component).unwrap_or(&self.unknown),
        }
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
        let probes = self.clone();
        instance.func_wrap("enter", move |mut store: StoreContextMut<'_, Guest>, (function,): (u32,)| {
            if let Some(seam) = probes.get(function)
                && let Some(call) = StartingCall::of(store.as_context_mut())?
            {
                let ProbedCaller { span, metrics, .. } = seam.caller(call.caller());
                call.begin(&mut store, &seam.callee, span, metrics);
            }
            Ok(())
        })?;
        instance.func_wrap("exit", |store: StoreContextMut<'_, Guest>, (_,): (u32,)| end_fused_call(store))
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
        let probes = SeamProbes::new([], &Arc::default());
        assert!(probes.provides(INTERFACE));
        assert!(!probes.provides("isomer:probe/probe@2.0.0"));
    }

    #[test]
    fn the_caller_of_a_function_with_several_callers_must_be_one_of_them() {
        let function = |callers: &[&str]| ProbedFunction {
            callers: callers.iter().copied().map(Arc::from).collect(),
            callee: "cart".into(),
            interface: "shop:it/cart".into(),
            function: "list".into(),
        };
        let probes = SeamProbes::new([function(&["pages"]), function(&["pages", "checkout"])], &Arc::default());
        let caller = |number, component: Option<&str>| {
            let seam = probes.get(number).expect("the function is probed");
            seam.caller(component.map(Arc::from).as_ref()).component.to_string()
        };
        assert_eq!([caller(0, None), caller(0, Some("other"))], ["pages", "pages"]);
        assert_eq!([caller(1, Some("checkout")), caller(1, Some("other")), caller(1, None)], ["checkout", "", ""]);
        assert!(probes.get(2).is_none());
    }
}
