//! The targets of calls that leave a composition: a package's stubs and skeletons, connected to their callees.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use isomer_runtime::{Graph, GroupFunction, SeamCallee, SeamStub, SeamTarget, Skeleton};
use isomer_wire::call::CallResult;
use isomer_wire::{Call, CallFailure, Callee, FunctionKey};

use crate::error::RevisionError;
use crate::package::{PackedFunction, PackedGroup, PackedStub};

/// The callees in the other processes of a shape, by the names of their groups.
pub type Peers = BTreeMap<String, Arc<dyn Callee>>;

/// Returns the functions of this process that are called from outside their compositions.
pub(crate) fn entrances(groups: &[PackedGroup]) -> HashMap<FunctionKey, GroupFunction> {
    let mut entrances = HashMap::new();
    for (group, packed) in groups.iter().enumerate() {
        let functions = packed.skeletons.iter().flat_map(|skeleton| &skeleton.functions);
        for (function, (key, _)) in functions.enumerate() {
            entrances.insert(*key, GroupFunction { group, function });
        }
    }
    entrances
}

/// Returns the skeletons of a group, in the order of the indexes that [`entrances`] returns.
pub(crate) fn skeletons(group: &PackedGroup) -> Vec<Skeleton> {
    let skeletons = group.skeletons.iter().map(|packed| Skeleton {
        component: packed.component.as_str().into(),
        export: group.note.skeleton(&packed.component).unwrap_or_default().to_owned(),
        functions: packed.functions.iter().map(|(_, is_async)| *is_async).collect(),
    });
    skeletons.collect()
}

/// Returns the stubs of a group, connected to the callees of their calls.
pub(crate) fn stubs(
    group: &PackedGroup,
    entrances: &HashMap<FunctionKey, GroupFunction>,
    peers: &Peers,
    deadline_max: Duration,
) -> Result<Vec<SeamStub>, RevisionError> {
    let target = |function: &PackedFunction| -> Result<SeamTarget, RevisionError> {
        Ok(SeamTarget {
            seam: function.seam.as_str().into(),
            catches: function.catches,
            idempotent: function.idempotent,
            allowed: function.allowed.min(deadline_max),
            callee: destination(function, entrances, peers)?,
        })
    };
    let stub = |packed: &PackedStub| {
        let targets = packed.functions.iter().map(target);
        Ok(SeamStub { component: packed.component.as_str().into(), targets: targets.collect::<Result<_, _>>()? })
    };
    group.stubs.iter().map(stub).collect()
}

/// Returns the callee of a call. A remote seam leads to its peer. Without a peer, it leads to this process if the
/// callee runs here, which allows a whole shape to run in one process.
fn destination(
    function: &PackedFunction,
    entrances: &HashMap<FunctionKey, GroupFunction>,
    peers: &Peers,
) -> Result<SeamCallee, RevisionError> {
    if let (true, Some(callee)) = (function.remote, peers.get(&function.process)) {
        return Ok(SeamCallee::Remote { callee: callee.clone(), key: function.key });
    }
    match entrances.get(&function.key) {
        Some(entrance) => Ok(SeamCallee::Local(*entrance)),
        None => Err(RevisionError::NoPeer { component: function.callee.clone(), process: function.process.clone() }),
    }
}

/// Handles calls from other processes.
pub(crate) struct LocalCallee {
    pub(crate) graph: Arc<Graph>,
    pub(crate) entrances: HashMap<FunctionKey, GroupFunction>,
}

impl Callee for LocalCallee {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        if call.context.plan != self.graph.plan() {
            let refused = CallFailure::refused("another revision of the app runs here");
            return Box::pin(std::future::ready(Err(refused)));
        }
        match self.entrances.get(&call.function) {
            Some(entrance) => Box::pin(self.graph.run_call(*entrance, call)),
            None => Box::pin(std::future::ready(Err(CallFailure::refused("there is no such function here")))),
        }
    }
}
