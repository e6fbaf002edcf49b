//! Decides where components run: in which group and composition, isolated or not, and in which order they are
//! instantiated. The mode of each seam follows from this.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, MONOLITH, Shape};

use crate::interface::{InterfaceType, ValueClass};
use crate::model::Seam;
use crate::planned_group::{ResolvedImport, SeamMode};

/// The placement of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The shape's group that contains the component, or the component's own name if no group contains it.
    pub(crate) group: String,
    /// The reason why the component is isolated from the rest of its group. `None` if it is not isolated.
    pub(crate) separation: Option<Separation>,
}

/// The reason why a component is isolated from its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Separation {
    /// The component is isolated because the manifest sets `isolate` for it.
    Isolate,
    /// The component is isolated because it has its own limits and no routes.
    Limits,
    /// The component passes handles of a package, and its grants for this package differ from those of other components
    /// in the group.
    Handles {
        /// The package that defines the handles' resources, for example `wasi:keyvalue`.
        package: String,
        /// The first of the components that pass handles of `package` to each other. All of them are isolated together.
        with: ComponentName,
    },
}

impl Placement {
    /// Returns a key that is equal for components of one composition: the group, and for an isolated component also the
    /// first of the components that are isolated together.
    pub(crate) fn unit(&self, component: &ComponentName) -> (String, Option<ComponentName>) {
        let leader = self.separation.as_ref().map(|separation| match separation {
            Separation::Isolate | Separation::Limits => component,
            Separation::Handles { with, .. } => with,
        });
        (self.group.clone(), leader.cloned())
    }
}

/// Returns the shape called `name`. If it does not exist, the error lists the existing shapes.
pub(crate) fn shape<'a>(app: &'a App, name: &str) -> Result<&'a Shape, Box<Diagnostic>> {
    if let Some(shape) = app.shapes.get(name) {
        return Ok(shape);
    }
    let known: Vec<_> = app.shapes.keys().map(|known| format!("`{known}`")).collect();
    let nearest = app
        .shapes
        .keys()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let error = Diagnostic::error(format!("app `{}` has no shape `{name}`", app.name))
        .code("unknown-shape")
        .note(format!("shapes of the app: {}", known.join(", ")))
        .hint(match nearest {
            Some((_, nearest)) => format!("did you mean `{nearest}`?"),
            None => format!("use one of these shapes, or define `{name}` under `[shapes.{name}]`"),
        });
    Err(Box::new(error))
}

/// Returns the placement of each component in the shape called `name`.
pub(crate) fn place(app: &App, name: &str, shape: &Shape) -> BTreeMap<ComponentName, Placement> {
    let mut grouped: BTreeMap<&ComponentName, &String> = BTreeMap::new();
    for (group, members) in &shape.groups {
        grouped.extend(members.iter().map(|member| (&member.value, group)));
    }
    let everything_in_one = name == MONOLITH && shape.groups.is_empty();
    let group_of = |component: &ComponentName| match grouped.get(component) {
        Some(group) => (*group).clone(),
        None if everything_in_one => MONOLITH.to_owned(),
        // A group of the shape has the name of this component but does not contain it, so the component's own group
        // needs another name.
        None if shape.groups.contains_key(component.as_str()) => format!("{component}-alone"),
        None => component.to_string(),
    };
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for component in app.components.keys() {
        *sizes.entry(group_of(component)).or_default() += 1;
    }
    app.components
        .iter()
        .map(|(name, component)| {
            let group = group_of(name);
            let limits = &component.limits;
            let own_limits =
                limits.memory_bytes.is_some() || limits.request_deadline.is_some() || limits.body_bytes.is_some();
            let separation = if sizes[&group] == 1 {
                None
            } else if component.isolate || shape.isolate.iter().any(|isolated| isolated.value == *name) {
                Some(Separation::Isolate)
            } else if own_limits && component.routes.is_empty() {
                Some(Separation::Limits)
            } else {
                None
            };
            (name.clone(), Placement { group, separation })
        })
        .collect()
}

/// Returns the name of the composition whose first isolated component is `component`. It is the component's name, with
/// a suffix if a group of the shape has this name.
pub(crate) fn isolated_name(component: &ComponentName, places: &BTreeMap<ComponentName, Placement>) -> String {
    let taken = |name: &str| places.values().any(|place| place.group == name);
    let mut name = component.to_string();
    while taken(&name) {
        name.push_str("-apart");
    }
    name
}

/// Returns the seam for a resolved import, with its mode and the reason for the mode.
pub(crate) fn seam(link: &ResolvedImport, import: &InterfaceType, places: &BTreeMap<ComponentName, Placement>) -> Seam {
    let (from, to) = (&places[&link.importer], &places[&link.exporter]);
    let (mode, reason) = if from.group != to.group {
        let is_own_group = |component: &ComponentName, place: &Placement| place.group == component.as_str();
        let why = if is_own_group(&link.importer, from) && is_own_group(&link.exporter, to) {
            "each runs in its own group".to_owned()
        } else {
            format!("`{}` runs in group `{}`, `{}` in group `{}`", link.importer, from.group, link.exporter, to.group)
        };
        (SeamMode::Remote, why)
    } else if from.unit(&link.importer) == to.unit(&link.exporter) {
        let why = match &from.separation {
            None => format!("both in group `{}`", from.group),
            Some(_) => "isolated together".to_owned(),
        };
        (SeamMode::Fused, why)
    } else {
        let (component, separation) = match (&to.separation, &from.separation) {
            (Some(separation), _) => (&link.exporter, separation),
            (None, separation) => (&link.importer, separation.as_ref().expect("the others of a group are in one unit")),
        };
        (SeamMode::Isolated, separation.reason(component))
    };
    Seam {
        link: link.clone(),
        mode,
        reason,
        class: import.class.clone(),
        functions: import.functions.keys().cloned().collect(),
    }
}

impl Separation {
    /// Returns the reason as a short phrase for lists.
    pub(crate) fn short_reason(&self) -> &'static str {
        match self {
            Self::Isolate => "`isolate` is set",
            Self::Limits => "own limits, no routes",
            Self::Handles { .. } => "grants for handles differ from those of the rest of the group",
        }
    }

    /// Returns the reason as a clause about `component`.
    fn reason(&self, component: &ComponentName) -> String {
        match self {
            Self::Isolate => format!("`isolate` is set for `{component}`"),
            Self::Limits => format!("`{component}` has its own limits and no routes"),
            Self::Handles { package, .. } => {
                format!(
                    "`{component}` passes handles of `{package}`, and its grants differ from those of the rest of the group"
                )
            }
        }
    }
}

/// Returns an error if the seam is not fused and the interface's values cannot cross it.
pub(crate) fn cannot_cross(app: &App, seam: &Seam, places: &BTreeMap<ComponentName, Placement>) -> Option<Diagnostic> {
    let link = &seam.link;
    // Streams and handles cannot leave a wasmtime store. If a seam mode supports streams in the future, this function
    // must allow them.
    let (what, type_name, instead) = match &seam.class {
        ValueClass::Plain => return None,
        ValueClass::Pinned { type_name } => (
            "a resource",
            type_name,
            "pass values instead of a handle, for example an id that the other component looks up",
        ),
        ValueClass::Experimental { type_name } => {
            ("a type that the engine does not enable yet", type_name, "use other types, for example a list or a record")
        }
        ValueClass::Streaming { type_name } => ("a stream or future", type_name, "pass the data in pieces: `list<u8>`"),
    };
    let hint = match seam.mode {
        SeamMode::Fused => return None,
        SeamMode::Isolated => isolation_hint(link, places),
        SeamMode::Remote => format!("put `{}` and `{}` into one group", link.importer, link.exporter),
    };
    Some(
        Diagnostic::error(format!(
            "the seam from `{}` to `{}` is {}, and `{}` passes {what} (`{type_name}`), which cannot cross it",
            link.importer, link.exporter, seam.mode, link.import
        ))
        .code("cannot-cross")
        .at(app.components[&link.importer].at.span, format!("imports `{}`", link.import))
        .note(seam.reason.clone())
        .hint(format!("{hint}; or {instead}")),
    )
}

fn isolation_hint(link: &ResolvedImport, places: &BTreeMap<ComponentName, Placement>) -> String {
    let part = |component: &ComponentName| match &places[component].separation {
        Some(Separation::Isolate) => Some(format!("remove `isolate` from `{component}`")),
        Some(Separation::Limits) => Some(format!(
            "remove the limits of `{component}`: a component without routes runs under the limits of its callers"
        )),
        Some(Separation::Handles { package, .. }) => Some(format!(
            "give `{component}` the grants of the components in the group that pass handles of `{package}`"
        )),
        None => None,
    };
    [&link.exporter, &link.importer].into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// Returns `members` in the order of instantiation: exporters before importers, otherwise by name.
///
/// # Errors
/// If components import from each other in a cycle. The error is the path of the cycle, which ends with its first
/// component.
pub(crate) fn order(
    members: &BTreeSet<ComponentName>,
    links: &[ResolvedImport],
) -> Result<Vec<ComponentName>, Vec<ComponentName>> {
    let needs = |component: &ComponentName| {
        links
            .iter()
            .filter(move |link| link.importer == *component && members.contains(&link.exporter))
            .map(|link| &link.exporter)
            .collect::<BTreeSet<_>>()
    };
    let mut ordered: Vec<ComponentName> = Vec::with_capacity(members.len());
    let mut waiting: BTreeMap<_, _> = members.iter().map(|member| (member, needs(member))).collect();
    while !waiting.is_empty() {
        let Some(ready) = waiting.iter().find(|(_, needs)| needs.is_empty()).map(|(member, _)| *member) else {
            return Err(cycle(&waiting));
        };
        waiting.remove(ready);
        waiting.values_mut().for_each(|needs| {
            needs.remove(ready);
        });
        ordered.push(ready.clone());
    }
    Ok(ordered)
}

/// Returns an import cycle. `waiting` contains the components that could not be ordered, each with the exporters that
/// must come before it.
fn cycle(waiting: &BTreeMap<&ComponentName, BTreeSet<&ComponentName>>) -> Vec<ComponentName> {
    let mut path: Vec<&ComponentName> = Vec::new();
    let mut current = *waiting.keys().next().expect("a component waits");
    loop {
        if let Some(start) = path.iter().position(|seen| *seen == current) {
            let mut cycle: Vec<ComponentName> = path[start..].iter().map(|name| (*name).clone()).collect();
            // The path starts with the alphabetically first name, so that the message does not depend on where the
            // search began.
            let first = (0..cycle.len()).min_by_key(|index| cycle[*index].clone()).expect("a cycle is not empty");
            cycle.rotate_left(first);
            cycle.push(cycle[0].clone());
            return cycle;
        }
        path.push(current);
        current = waiting[current].iter().next().expect("every component waits for another");
    }
}

/// Returns the error for components that import from each other in a cycle. `links` contains the imports of the group.
pub(crate) fn cycle_error(app: &App, group: &str, cycle: &[ComponentName], links: &[ResolvedImport]) -> Diagnostic {
    let path: Vec<_> = cycle.iter().map(ToString::to_string).collect();
    let error =
        Diagnostic::error(format!("components of group `{group}` import from each other: {}", path.join(" → ")))
            .code("cycle")
            .at(app.components[&cycle[0]].at.span, "part of the cycle");
    let steps = cycle.windows(2).filter_map(|pair| {
        let link = links.iter().find(|link| link.importer == pair[0] && link.exporter == pair[1])?;
        Some(format!("`{}` imports `{}` from `{}`", pair[0], link.import, pair[1]))
    });
    steps
        .fold(error, Diagnostic::note)
        .hint("a component is instantiated after the components that it imports from: move what the components need from each other into another component")
}
