//! Connects the stubs in a package to their callees, which are the targets of calls that leave a composition.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use isomer_runtime::{
    ExportedFunction, Graph, GroupFunction, SeamCallee, SeamFunction, SeamStub, SeamTarget, Skeleton,
};
use isomer_telemetry::metrics::{SeamLabels, SeamMetrics, SeriesGroup};
use isomer_wire::call::CallResult;
use isomer_wire::{Call, CallFailure, Callee, FunctionKey};

use crate::error::RevisionError;
use crate::package::{PackedExport, PackedFunction, PackedGroup, PackedStub};

/// The callees in the other processes of a shape, by the names of the groups that these processes run.
pub type Peers = BTreeMap<String, Arc<dyn Callee>>;

/// Returns the functions in this process that are called from outside their composition.
pub(crate) fn local_functions(groups: &[PackedGroup]) -> HashMap<FunctionKey, GroupFunction> {
    let mut found = HashMap::new();
    for (group, packed) in groups.iter().enumerate() {
        let functions = packed.skeletons.iter().flat_map(|skeleton| &skeleton.functions);
        for (function, exported) in functions.enumerate() {
            found.insert(exported.key, GroupFunction { group, function });
        }
    }
    found
}

/// Returns the skeletons of a group, with their functions in the order in which [`local_functions`] numbers them.
pub(crate) fn skeletons(group: &PackedGroup) -> Vec<Skeleton> {
    let exported = |function: &PackedExport| ExportedFunction {
        interface: function.interface.as_str().into(),
        function: function.function.as_str().into(),
        is_async: function.is_async,
    };
    let skeletons = group.skeletons.iter().map(|packed| Skeleton {
        component: packed.component.as_str().into(),
        export: group.note.skeleton(&packed.component).unwrap_or_default().to_owned(),
        functions: packed.functions.iter().map(exported).collect(),
    });
    skeletons.collect()
}

/// Returns the stubs of a group, with the callee of each function.
pub(crate) fn stubs(
    group: &PackedGroup,
    local_functions: &HashMap<FunctionKey, GroupFunction>,
    peers: &Peers,
    deadline_max: Duration,
    series: &Arc<SeriesGroup>,
) -> Result<Vec<SeamStub>, RevisionError> {
    let mut metrics = BTreeMap::new();
    let mut target = |caller: &Arc<str>, function: &PackedFunction| -> Result<SeamTarget, RevisionError> {
        let seam = SeamFunction {
            caller: caller.clone(),
            callee: function.callee.as_str().into(),
            interface: function.interface.as_str().into(),
            function: function.function.as_str().into(),
        };
        let callee = destination(function, local_functions, peers)?;
        let mode = callee.mode();
        // All functions of an interface share the metrics of the seam.
        let key = (seam.caller.clone(), seam.callee.clone(), seam.interface.clone(), mode);
        let new = || {
            let (caller, callee, interface) = (seam.caller.clone(), seam.callee.clone(), seam.interface.clone());
            SeamMetrics::new(series.clone(), SeamLabels { caller, callee, interface, mode, is_sampled: false })
        };
        Ok(SeamTarget {
            metrics: metrics.entry(key).or_insert_with(new).clone(),
            seam: Arc::new(seam),
            catches: function.catches,
            idempotent: function.idempotent,
            allowed: function.allowed.min(deadline_max),
            callee,
        })
    };
    let stub = |packed: &PackedStub| {
        let component: Arc<str> = packed.component.as_str().into();
        let targets = packed.functions.iter().map(|function| target(&component, function));
        Ok(SeamStub { targets: targets.collect::<Result<_, _>>()?, component })
    };
    group.stubs.iter().map(stub).collect()
}

/// Returns the callee of a function. For a remote seam, the callee is the entry of the function's group in `peers`.
/// Without such an entry, the callee is the function in this process, if there is one, so that a shape with several
/// groups can run in one process.
fn destination(
    function: &PackedFunction,
    local_functions: &HashMap<FunctionKey, GroupFunction>,
    peers: &Peers,
) -> Result<SeamCallee, RevisionError> {
    if let (true, Some(callee)) = (function.remote, peers.get(&function.process)) {
        return Ok(SeamCallee::Remote { callee: callee.clone(), key: function.key });
    }
    match local_functions.get(&function.key) {
        Some(local) => Ok(SeamCallee::Local(*local)),
        None => Err(RevisionError::NoPeer { component: function.callee.clone(), process: function.process.clone() }),
    }
}

/// Handles calls that come from other processes.
pub(crate) struct LocalCallee {
    pub(crate) graph: Arc<Graph>,
    pub(crate) functions: HashMap<FunctionKey, GroupFunction>,
}

impl Callee for LocalCallee {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        if call.context.plan != self.graph.plan() {
            let refused = CallFailure::refused("this process runs another revision of the app");
            return Box::pin(std::future::ready(Err(refused)));
        }
        match self.functions.get(&call.function) {
            Some(function) => Box::pin(self.graph.run_call(*function, call)),
            None => Box::pin(std::future::ready(Err(CallFailure::refused("this process has no such function")))),
        }
    }
}
