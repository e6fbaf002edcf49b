//! Where calls that leave a composition lead: the plan's stubs and skeletons, with those who answer them.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use isomer_manifest::App;
use isomer_plan::{Group as PlannedGroup, Mode, Plan, StubFunction};
use isomer_runtime::{Destination, Entrance, Graph, Skeleton, Stub, Target};
use isomer_wire::call::Answer;
use isomer_wire::{Call, CallFailure, Callee, FunctionKey};

use crate::composition::GroupNote;
use crate::revision::RevisionError;

/// Who answers for the other processes of a shape, by their names.
pub type Peers = BTreeMap<String, Arc<dyn Callee>>;

/// Where the functions are that are called from outside their compositions: those of this process by their keys.
pub(crate) fn entrances(groups: &[&PlannedGroup]) -> HashMap<FunctionKey, Entrance> {
    let mut entrances = HashMap::new();
    for (group, planned) in groups.iter().enumerate() {
        let functions = planned.skeletons.iter().flat_map(|skeleton| &skeleton.functions);
        for (function, planned) in functions.enumerate() {
            entrances.insert(planned.key, Entrance { group, function });
        }
    }
    entrances
}

/// The skeletons of a group, in the order that [`entrances`] counts in.
pub(crate) fn skeletons(group: &PlannedGroup, note: &GroupNote) -> Vec<Skeleton> {
    let skeleton = |planned: &isomer_plan::Skeleton| Skeleton {
        component: planned.component.as_str().into(),
        export: note.skeleton(&planned.component).unwrap_or_default().to_owned(),
        functions: planned.functions.iter().map(|function| function.is_async).collect(),
    };
    group.skeletons.iter().map(skeleton).collect()
}

/// The stubs of a group, with whoever answers their calls.
pub(crate) fn stubs(
    app: &App,
    plan: &Plan,
    group: &PlannedGroup,
    entrances: &HashMap<FunctionKey, Entrance>,
    peers: &Peers,
) -> Result<Vec<Stub>, RevisionError> {
    let target = |caller: &str, function: &StubFunction| -> Result<Target, RevisionError> {
        let mut interface = function.interface.clone();
        interface.version = None;
        let limits = app.components.get(&function.callee).map(|component| &component.limits);
        Ok(Target {
            seam: format!("{caller} → {}, {interface}.{}", function.callee, function.function).into(),
            catches: function.catches,
            idempotent: function.idempotent,
            allowed: limits.map(|limits| limits.request_deadline()).unwrap_or_default(),
            callee: destination(plan, function, entrances, peers)?,
        })
    };
    let stub = |planned: &isomer_plan::Stub| {
        let targets = planned.functions.iter().map(|function| target(planned.component.as_str(), function));
        Ok(Stub { component: planned.component.as_str().into(), targets: targets.collect::<Result<_, _>>()? })
    };
    group.stubs.iter().map(stub).collect()
}

/// A remote seam leads to its peer; without one, to the same process if the callee is there. That is how a whole shape runs in
/// one process.
fn destination(
    plan: &Plan,
    function: &StubFunction,
    entrances: &HashMap<FunctionKey, Entrance>,
    peers: &Peers,
) -> Result<Destination, RevisionError> {
    let process = plan.group_of(&function.callee).map_or("", |group| group.process());
    if let (Mode::Remote, Some(callee)) = (function.mode, peers.get(process)) {
        return Ok(Destination::Remote { callee: callee.clone(), key: function.key });
    }
    match entrances.get(&function.key) {
        Some(entrance) => Ok(Destination::Local(*entrance)),
        None => Err(RevisionError::NoPeer { component: function.callee.clone(), process: process.to_owned() }),
    }
}

/// Answers the calls of other processes.
pub(crate) struct Answering {
    pub(crate) graph: Arc<Graph>,
    pub(crate) entrances: HashMap<FunctionKey, Entrance>,
}

impl Callee for Answering {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        if call.context.revision != self.graph.revision() {
            let refused = CallFailure::refused("another revision of the app runs here");
            return Box::pin(std::future::ready(Err(refused)));
        }
        match self.entrances.get(&call.function) {
            Some(entrance) => Box::pin(self.graph.clone().answer(*entrance, call)),
            None => Box::pin(std::future::ready(Err(CallFailure::refused("there is no such function here")))),
        }
    }
}
