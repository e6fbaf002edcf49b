//! Where the components of an app run, and the mode of each seam: the part of a plan that a shape decides.
//!
//! An arrangement can be computed for another shape without the types of the components, so that shapes can be compared
//! where only the manifest and the current plan are known. Only the planner itself knows whether the app can run in
//! the other shape. In particular, an arrangement does not isolate components because of the handles that they pass.

use std::collections::{BTreeMap, BTreeSet};

use isomer_diagnostics::Diagnostic;
use isomer_ids::ComponentName;
use isomer_manifest::{App, Shape};
use serde::Deserialize;

use crate::model::Plan;
use crate::placement::{self, Placement};
use crate::planned_group::SeamMode;
use crate::stores;

/// Where the components of an app run, and the mode of each seam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// The name of the shape.
    pub shape: String,
    /// The compositions, ordered by process and components.
    pub compositions: Vec<ArrangedComposition>,
    /// The seams, ordered by importer and interface.
    pub seams: Vec<ArrangedSeam>,
}

/// Components that are fused and run in one wasmtime store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArrangedComposition {
    /// The group in whose process the components run.
    pub process: String,
    /// The components.
    pub components: BTreeSet<String>,
}

/// A seam and its mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArrangedSeam {
    /// The importing component.
    pub importer: String,
    /// The imported interface.
    pub interface: String,
    /// The exporting component.
    pub exporter: String,
    /// How the calls of the seam run.
    pub mode: SeamMode,
    /// Whether calls can run in another mode than fused: all values that they pass are plain.
    pub can_part: bool,
}

/// The part of a plan in JSON that describes its arrangement.
#[derive(Debug, Deserialize)]
pub struct PlanOutline {
    shape: String,
    groups: Vec<GroupOutline>,
    seams: Vec<SeamOutline>,
}

#[derive(Debug, Deserialize)]
struct GroupOutline {
    name: String,
    set_apart_from: Option<String>,
    components: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct SeamOutline {
    importer: String,
    import: String,
    exporter: String,
    mode: SeamMode,
    class: ClassOutline,
}

#[derive(Debug, Deserialize)]
struct ClassOutline {
    kind: String,
}

impl From<PlanOutline> for Arrangement {
    fn from(outline: PlanOutline) -> Self {
        let composition = |group: GroupOutline| ArrangedComposition {
            process: group.set_apart_from.unwrap_or(group.name),
            components: group.components,
        };
        let seam = |seam: SeamOutline| ArrangedSeam {
            importer: seam.importer,
            interface: seam.import,
            exporter: seam.exporter,
            mode: seam.mode,
            can_part: seam.class.kind == "plain",
        };
        let compositions = outline.groups.into_iter().map(composition).collect();
        Self { shape: outline.shape, compositions, seams: outline.seams.into_iter().map(seam).collect() }.sorted()
    }
}

impl Arrangement {
    /// Returns the arrangement of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let compositions = plan.groups.iter().map(|group| ArrangedComposition {
            process: group.process().to_owned(),
            components: group.components.iter().map(ToString::to_string).collect(),
        });
        let seams = plan.seams.iter().map(|seam| ArrangedSeam {
            importer: seam.link.importer.to_string(),
            interface: seam.link.import.to_string(),
            exporter: seam.link.exporter.to_string(),
            mode: seam.mode,
            can_part: seam.class.is_plain(),
        });
        Self { shape: plan.shape.clone(), compositions: compositions.collect(), seams: seams.collect() }.sorted()
    }

    /// Returns the compositions of each of the app's shapes, as far as the manifest decides them.
    #[must_use]
    pub fn of_manifest(app: &App) -> BTreeMap<String, Vec<ArrangedComposition>> {
        let of_shape =
            |(name, shape): (&String, &Shape)| (name.clone(), compositions(&placement::place(app, name, shape)));
        app.shapes.iter().map(of_shape).collect()
    }

    /// Returns the arrangement in another shape, called `name`, and the known reasons why the app cannot run in it.
    #[must_use]
    pub fn in_shape(&self, app: &App, name: &str, shape: &Shape) -> (Self, Vec<Diagnostic>) {
        let places = placement::place(app, name, shape);
        let mut problems = Vec::new();
        stores::check(app, name, &places, &mut problems, &mut Vec::new());
        let place = |component: &str| {
            let name = ComponentName::new(component).ok()?;
            places.get_key_value(&name)
        };
        let moved = |seam: &ArrangedSeam| {
            let (Some((importer, from)), Some((exporter, to))) = (place(&seam.importer), place(&seam.exporter)) else {
                return seam.clone();
            };
            ArrangedSeam { mode: mode(importer, from, exporter, to), ..seam.clone() }
        };
        let seams: Vec<_> = self.seams.iter().map(moved).collect();
        problems.extend(seams.iter().filter(|seam| seam.mode != SeamMode::Fused && !seam.can_part).map(|seam| {
            Diagnostic::error(format!(
                "the seam from `{}` to `{}` would be {}, and `{}` passes values that cannot leave a wasmtime store",
                seam.importer, seam.exporter, seam.mode, seam.interface
            ))
            .code("cannot-cross")
        }));
        let with_routes: BTreeSet<_> = app
            .components
            .iter()
            .filter(|(_, component)| !component.routes.is_empty())
            .filter_map(|(component, _)| Some(places.get(component)?.group.as_str()))
            .collect();
        if with_routes.len() > 1 {
            let groups = with_routes.iter().map(|group| format!("`{group}`")).collect::<Vec<_>>().join(", ");
            let text = format!("the groups {groups} have components with routes, which must run in one group");
            problems.push(Diagnostic::error(text).code("two-front-doors"));
        }
        (Self { shape: name.to_owned(), compositions: compositions(&places), seams }.sorted(), problems)
    }

    /// Returns the arrangement if all groups run in one process, as on a node: the seams between groups are isolated.
    /// `process` is the name of the process.
    #[must_use]
    pub fn in_one_process(mut self, process: &str) -> Self {
        for composition in &mut self.compositions {
            process.clone_into(&mut composition.process);
        }
        for seam in self.seams.iter_mut().filter(|seam| seam.mode == SeamMode::Remote) {
            seam.mode = SeamMode::Isolated;
        }
        self.sorted()
    }

    /// Returns the process and the composition of each component.
    #[must_use]
    pub fn places(&self) -> BTreeMap<&str, &ArrangedComposition> {
        let mut places = BTreeMap::new();
        for composition in &self.compositions {
            places.extend(composition.components.iter().map(|component| (component.as_str(), composition)));
        }
        places
    }

    fn sorted(mut self) -> Self {
        self.compositions.sort();
        self.seams.sort();
        self
    }
}

fn mode(importer: &ComponentName, from: &Placement, exporter: &ComponentName, to: &Placement) -> SeamMode {
    if from.group != to.group {
        SeamMode::Remote
    } else if from.unit(importer) == to.unit(exporter) {
        SeamMode::Fused
    } else {
        SeamMode::Isolated
    }
}

fn compositions(places: &BTreeMap<ComponentName, Placement>) -> Vec<ArrangedComposition> {
    let mut units: BTreeMap<(String, Option<ComponentName>), BTreeSet<String>> = BTreeMap::new();
    for (component, place) in places {
        units.entry(place.unit(component)).or_default().insert(component.to_string());
    }
    units.into_iter().map(|((process, _), components)| ArrangedComposition { process, components }).collect()
}
