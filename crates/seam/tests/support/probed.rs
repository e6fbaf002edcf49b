//! A fused group that runs plain or probed, and the calls that its probes report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;
use isomer_seam::{ProbedFunction, compose, compose_probed};
use wasmtime::component::{Component, GuestTaskId, Instance, Linker, Val};
use wasmtime::{Engine, Result, Store, StoreContextMut};

use super::crossing::{Seen, block_on, link_back};

/// The id of the interface of the probes.
pub(crate) const PROBE: &str = "isomer:probe/probe@1.0.0";

/// What a probe reported: the name of the probe's function, the number of the probed function, and the current tasks,
/// youngest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: &'static str,
    pub(crate) function: u32,
    pub(crate) tasks: Vec<GuestTaskId>,
}

/// An instance of a group's composition.
pub(crate) struct Running {
    pub(crate) store: Store<Seen>,
    instance: Instance,
    pub(crate) functions: Vec<ProbedFunction>,
    reports: Arc<Mutex<Vec<Report>>>,
}

/// Instantiates the plain composition of a group.
pub(crate) fn plain(group: &PlannedGroup, components: &BTreeMap<ComponentName, Arc<[u8]>>) -> Running {
    let composition = compose(group, components).expect("the group composes");
    assert!(composition.imports.iter().all(|import| import.name != PROBE), "{:?}", composition.imports);
    start(&composition.bytes, vec![])
}

/// Instantiates the probed composition of a group, in which every called component must be probed.
pub(crate) fn probed(group: &PlannedGroup, components: &BTreeMap<ComponentName, Arc<[u8]>>) -> Running {
    let probed = compose_probed(group, components).expect("the group composes");
    assert_eq!(probed.unprobed, []);
    assert!(probed.composition.imports.iter().any(|import| import.name == PROBE), "{:?}", probed.composition.imports);
    start(&probed.composition.bytes, probed.functions)
}

fn start(bytes: &[u8], functions: Vec<ProbedFunction>) -> Running {
    let engine = Engine::default();
    let compiled = Component::new(&engine, bytes).expect("the component compiles");
    let mut linker = Linker::<Seen>::new(&engine);
    let imports: Vec<_> = compiled.component_type().imports(&engine).map(|(name, _)| name.to_owned()).collect();
    if imports.iter().any(|name| name == "test:app/back") {
        link_back(&mut linker, &engine, &compiled);
    }
    let reports = Arc::<Mutex<Vec<Report>>>::default();
    if imports.iter().any(|name| name == PROBE) {
        let mut probe = linker.instance(PROBE).expect("the name is not defined yet");
        for kind in ["enter", "exit"] {
            let reports = reports.clone();
            let report = move |mut store: StoreContextMut<'_, Seen>, (function,): (u32,)| {
                let tasks = store.async_call_stack()?.collect();
                reports.lock().expect("no thread panics").push(Report { kind, function, tasks });
                Ok(())
            };
            probe.func_wrap(kind, report).expect("the name is not defined yet");
        }
    }
    let mut store = Store::new(&engine, Seen::default());
    let instance =
        block_on(linker.instantiate_async(&mut store, &compiled)).expect("the component can be instantiated");
    Running { store, instance, functions, reports }
}

impl Running {
    /// Calls a function of the handler that the component `front` exports.
    pub(crate) fn call(&mut self, function: &str, arguments: &[Val]) -> Result<Option<Val>> {
        let Running { store, instance, .. } = self;
        let front = instance.get_export_index(&mut *store, None, "front-http-handler").expect("`front` is exported");
        let index = instance.get_export_index(&mut *store, Some(&front), function).expect("the function is exported");
        let called = instance.get_func(&mut *store, index).expect("the export is a function");
        let mut results = vec![Val::Bool(false); called.ty(&*store).results().len()];
        block_on(called.call_async(&mut *store, arguments, &mut results))?;
        Ok(results.pop())
    }

    /// Returns what the probes have reported since the last time that this function was called.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock().expect("no thread panics"))
    }

    /// Returns the reports as `> component.function` for the start of a call and `< component.function` for its end.
    pub(crate) fn calls(&mut self) -> Vec<String> {
        let reports = self.reports();
        let text = |report: Report| {
            let ProbedFunction { component, function, .. } = &self.functions[report.function as usize];
            format!("{} {component}.{function}", if report.kind == "enter" { ">" } else { "<" })
        };
        reports.into_iter().map(text).collect()
    }
}
