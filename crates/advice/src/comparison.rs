//! The difference between the current shape and another one, with its estimated cost per request.

use std::collections::{BTreeMap, BTreeSet};

use isomer_api::shapes::{COMPONENTS_MAX, GROUPS_MAX};
use isomer_api::{IsolationChange, ProcessOutline, SeamChange, ShapeComparison, ShapeInfo, ShapeRequest};
use isomer_ids::{ComponentName, check_name};
use isomer_manifest::{App, Shape, Spanned};
use isomer_plan::{
    ArrangedComposition, ArrangedSeam, Arrangement, ArrangementDifference, ModeChange, PlanOutline, processes,
};

use crate::cost::call_us;
use crate::traffic::{Traffic, mode_name, without_version};

/// The name of an arrangement that the manifest does not define.
const UNNAMED: &str = "unnamed";

/// Where the groups of a shape run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPlacement {
    /// Each group runs in its own process.
    OwnProcesses,
    /// All groups run in one process, as on a node. Seams between groups are isolated.
    OneProcess,
}

/// The name of the process in which all groups run on a node.
const NODE_PROCESS: &str = "node";

impl GroupPlacement {
    pub(crate) fn arrange(self, arrangement: &Arrangement) -> Arrangement {
        match self {
            Self::OwnProcesses => arrangement.clone(),
            Self::OneProcess => arrangement.clone().in_one_process(NODE_PROCESS),
        }
    }
}

/// The reason why a shape cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidShape(pub String);

/// Returns the shapes that the manifest defines. `current` is the name of the shape in which the app runs.
#[must_use]
pub fn shapes(app: &App, current: &str, placement: GroupPlacement) -> Vec<ShapeInfo> {
    let info = |(name, compositions): (String, Vec<ArrangedComposition>)| ShapeInfo {
        current: name == current,
        in_one_process: placement == GroupPlacement::OneProcess,
        processes: outlines(&Arrangement { shape: name.clone(), compositions, seams: Vec::new() }),
        name,
    };
    Arrangement::of_manifest(app).into_iter().map(info).collect()
}

/// Returns the arrangement of a plan in JSON, as the admin API returns it; `None` if it is not the JSON of a plan.
#[must_use]
pub fn arrangement_of(plan: &serde_json::Value) -> Option<Arrangement> {
    serde_json::from_value::<PlanOutline>(plan.clone()).ok().map(Arrangement::from)
}

/// Compares the arrangement in which the app runs with another one.
///
/// # Errors
/// If the request names an unknown shape or component, or exceeds a limit.
pub fn compare(
    app: &App,
    current: &Arrangement,
    request: &ShapeRequest,
    traffic: &Traffic,
    placement: GroupPlacement,
) -> Result<ShapeComparison, InvalidShape> {
    let (name, shape) = shape_of(app, request)?;
    let (other, problems) = current.in_shape(app, name.as_deref().unwrap_or(UNNAMED), &shape);
    let traffic = traffic.clone().with_all_fused_calls(current);
    let mut comparison = compare_arrangements(&placement.arrange(current), &placement.arrange(&other), &traffic);
    // Two arrangements that differ only in the names of their processes are the same shape. An arrangement does not
    // contain a browser group, so a shape with such a group is not equal to it.
    let equal = || {
        let has_browser_group = |name: &str| app.shapes.get(name).is_some_and(|shape| shape.browser.is_some());
        let known = Arrangement::of_manifest(app).into_iter().filter(|(name, _)| !has_browser_group(name));
        known.filter(|(_, known)| partition(known) == partition(&other.compositions)).map(|(name, _)| name).next()
    };
    comparison.to = name.or_else(equal);
    comparison.problems = problems.into_iter().map(|problem| problem.message).collect();
    Ok(comparison)
}

/// Compares two arrangements of the same components.
#[must_use]
pub fn compare_arrangements(before: &Arrangement, after: &Arrangement, traffic: &Traffic) -> ShapeComparison {
    let difference = ArrangementDifference::between(before, after);
    let callers = callers(&before.seams);
    let seams: Vec<_> = difference.seams.iter().map(|change| seam_change(change, traffic, &callers)).collect();
    let costs = seams.iter().filter_map(|seam| Some(seam.calls_per_request? * seam.cost_us_per_call));
    let measured = seams.iter().filter(|seam| seam.calls_per_request.is_some()).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let isolation = difference.isolation.iter().map(|isolation| IsolationChange {
        component: isolation.component.clone(),
        store_before: count(isolation.before.in_store),
        store_after: count(isolation.after.in_store),
        process_before: count(isolation.before.in_process),
        process_after: count(isolation.after.in_process),
    });
    ShapeComparison {
        from: before.shape.clone(),
        to: Some(after.shape.clone()),
        unchanged: difference.unchanged as u64,
        cost_us_per_request: (measured > 0).then(|| costs.sum()),
        is_lower_bound: seams.iter().any(|seam| seam.is_lower_bound),
        unmeasured: (seams.len() - measured) as u64,
        requests: traffic.requests,
        before: outlines(before),
        after: outlines(after),
        isolation: isolation.collect(),
        problems: Vec::new(),
        seams,
    }
}

/// The importers of each exported interface, by the exporter and the interface without its version.
pub(crate) type Callers<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>;

pub(crate) fn callers(seams: &[ArrangedSeam]) -> Callers<'_> {
    let mut callers = Callers::new();
    for seam in seams {
        let interface = without_version(&seam.interface);
        callers.entry((&seam.exporter, interface)).or_default().insert(&seam.importer);
    }
    callers
}

fn seam_change(change: &ModeChange, traffic: &Traffic, callers: &Callers<'_>) -> SeamChange {
    let ModeChange { importer, exporter, interface, before, after } = change;
    let is_only =
        callers.get(&(exporter.as_str(), without_version(interface))).is_some_and(|callers| callers.len() == 1);
    let measured = traffic.seam((importer, exporter), interface, *before, is_only);
    SeamChange {
        importer: importer.clone(),
        exporter: exporter.clone(),
        interface: interface.clone(),
        before: mode_name(*before).to_owned(),
        after: mode_name(*after).to_owned(),
        cost_us_per_call: call_us(*after) - call_us(*before),
        is_lower_bound: measured.as_ref().is_some_and(|seam| seam.is_lower_bound),
        calls_per_request: measured.and_then(|seam| traffic.per_request(seam.calls)),
    }
}

fn outlines(arrangement: &Arrangement) -> Vec<ProcessOutline> {
    let outline = |(name, compositions): (&str, Vec<&ArrangedComposition>)| ProcessOutline {
        name: name.to_owned(),
        compositions: compositions.iter().map(|it| it.components.iter().cloned().collect()).collect(),
    };
    processes(arrangement).into_iter().map(outline).collect()
}

/// Returns the shape that `request` describes, and its name if the manifest defines it.
fn shape_of(app: &App, request: &ShapeRequest) -> Result<(Option<String>, Shape), InvalidShape> {
    let ShapeRequest { shape, groups, isolate } = request;
    if let Some(name) = shape {
        if !groups.is_empty() || !isolate.is_empty() {
            return Err(InvalidShape("a request names a shape, or has `groups` and `isolate`".to_owned()));
        }
        let known = app.shapes.get(name);
        let unknown = || {
            let known = app.shapes.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            InvalidShape(format!("the app has no shape `{}`; it has {known}", shortened(name)))
        };
        return Ok((Some(name.clone()), known.ok_or_else(unknown)?.clone()));
    }
    let named: usize = groups.values().map(Vec::len).sum::<usize>() + isolate.len();
    if groups.len() > GROUPS_MAX || named > COMPONENTS_MAX {
        let why = format!("a shape has at most {GROUPS_MAX} groups, and names at most {COMPONENTS_MAX} components");
        return Err(InvalidShape(why));
    }
    let component = |name: &String| {
        let known = ComponentName::new(name).ok().filter(|name| app.components.contains_key(name));
        let known = known.ok_or_else(|| InvalidShape(format!("the app has no component `{}`", shortened(name))))?;
        Ok(Spanned::unwritten(known))
    };
    let mut seen = BTreeSet::new();
    let mut own = Shape::default();
    for (group, members) in groups {
        check_name("a group name", group).map_err(|error| InvalidShape(error.to_string()))?;
        if let Some(twice) = members.iter().find(|member| !seen.insert(member.as_str())) {
            return Err(InvalidShape(format!("the component `{}` is in two groups", shortened(twice))));
        }
        own.groups.insert(group.clone(), members.iter().map(component).collect::<Result<_, _>>()?);
    }
    own.isolate = isolate.iter().map(component).collect::<Result<_, _>>()?;
    Ok((None, own))
}

/// Returns the components by process and composition, without the names of the processes.
fn partition(compositions: &[ArrangedComposition]) -> BTreeSet<BTreeSet<&BTreeSet<String>>> {
    let mut processes = BTreeMap::<_, BTreeSet<_>>::new();
    for composition in compositions {
        processes.entry(&composition.process).or_default().insert(&composition.components);
    }
    processes.into_values().collect()
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}
