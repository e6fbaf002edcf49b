//! Properties of all plans: fusing never widens authority, every import is provided exactly once, and the order of the
//! entries in the manifest does not matter.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use isomer_ids::{ComponentName, StoreName};
use isomer_manifest::{App, Grants, Shape, Spanned};
use isomer_plan::{ComponentType, ImportBinding, InterfaceId, Plan, SeamMode, plan};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{component, name};

/// Interfaces of the host that generated components import, and whether each gives authority.
const HOST: [(&str, bool); 10] = [
    ("wasi:io/streams@0.2.6", false),
    ("wasi:http/types@0.3.0", false),
    ("isomer:sql/types@0.1.0", false),
    ("wasi:cli/environment@0.2.3", true),
    ("wasi:cli/environment@0.2.6", true),
    ("wasi:cli/stdout@0.3.0", true),
    ("wasi:filesystem/preopens@0.2.6", true),
    ("wasi:keyvalue/store@0.2.0-draft", true),
    ("wasi:keyvalue/atomics@0.2.0-draft", true),
    ("isomer:sql/store@0.1.0", true),
];
const COMPONENTS_MAX: usize = 7;

/// A generated component. It refers to other components by index.
#[derive(Debug, Clone)]
struct Part {
    host_imports: BTreeSet<usize>,
    /// The components whose interfaces this component imports.
    calls: BTreeSet<usize>,
    granted: bool,
    isolate: bool,
    group: usize,
}

fn part() -> impl Strategy<Value = Part> {
    (
        prop::collection::btree_set(0..HOST.len(), 0..6),
        prop::collection::btree_set(0..COMPONENTS_MAX, 0..3),
        any::<bool>(),
        prop::bool::weighted(0.15),
        0..3_usize,
    )
        .prop_map(|(host_imports, calls, granted, isolate, group)| Part {
            host_imports,
            calls,
            granted,
            isolate,
            group,
        })
}

fn part_name(index: usize) -> String {
    format!("part-{index}")
}

/// Returns an app that consists of `parts` and has two shapes, and the types of its components. If `reversed` is true,
/// the stores in each grant and the components in each group are listed in reverse order.
fn app(parts: &[Part], reversed: bool) -> (App, BTreeMap<ComponentName, ComponentType>) {
    let mut app = App::single("x.wasm".as_ref(), Grants::default());
    let template = app.components.pop_first().expect("there is one").1;
    let (mut everything, mut groups, mut types) = (vec![], BTreeMap::<String, Vec<_>>::new(), BTreeMap::new());
    for (index, part) in parts.iter().enumerate() {
        let name = name(&part_name(index));
        let mut component = template.clone();
        component.routes.clear();
        component.isolate = part.isolate;
        if part.granted {
            let store =
                |prefix| Spanned::unwritten(StoreName::new(&format!("{prefix}-{index}")).expect("it is a name"));
            component.grants.kv = vec![store("a"), store("b")];
            component.grants.sql = vec![store("c"), store("d")];
            if reversed {
                component.grants.kv.reverse();
                component.grants.sql.reverse();
            }
        }
        app.components.insert(name.clone(), component);
        everything.push(Spanned::unwritten(name.clone()));
        groups.entry(format!("group-{}", part.group)).or_default().push(Spanned::unwritten(name.clone()));
        let calls: Vec<_> = part
            .calls
            .iter()
            .filter(|callee| **callee < parts.len() && **callee != index)
            .map(|callee| format!("app:parts/i{callee}@0.1.0"))
            .collect();
        let imports: Vec<&str> =
            part.host_imports.iter().map(|import| HOST[*import].0).chain(calls.iter().map(String::as_str)).collect();
        types.insert(name, support::component(&imports, &[&format!("app:parts/i{index}@0.1.1")]));
    }
    if reversed {
        everything.reverse();
        groups.values_mut().for_each(|members| members.reverse());
    }
    let monolith = Shape { groups: BTreeMap::from([("monolith".to_owned(), everything)]), ..Shape::default() };
    app.shapes = BTreeMap::from([
        ("monolith".to_owned(), monolith),
        ("groups".to_owned(), Shape { groups, ..Shape::default() }),
    ]);
    (app, types)
}

/// Returns the authority of a component: for each import that gives authority, the components that share the import.
fn authority(plan: &Plan, component: &ComponentName) -> BTreeMap<InterfaceId, BTreeSet<ComponentName>> {
    let group = plan.group_of(component).expect("every component is placed");
    let gives_authority = |id: &InterfaceId| HOST.iter().any(|(name, authority)| *authority && *name == id.to_string());
    let own =
        group.imports.iter().filter(|import| import.component == *component && gives_authority(&import.interface));
    own.map(|import| {
        // Components that are bound to the same import of the composition share its authority, because the host cannot
        // tell which of them calls.
        let sharers = group.imports.iter().filter(|other| match (&import.binding, &other.binding) {
            (ImportBinding::Labelled { label }, ImportBinding::Labelled { label: other }) => label == other,
            (ImportBinding::Labelled { .. }, _) | (_, ImportBinding::Labelled { .. }) => false,
            _ => import.interface.track() == other.interface.track(),
        });
        (import.interface.clone(), sharers.map(|other| other.component.clone()).collect())
    })
    .collect()
}

fn check(app: &App, types: &BTreeMap<ComponentName, ComponentType>, plan: &Plan) -> Result<(), TestCaseError> {
    for (component, ty) in types {
        for (import, whose) in authority(plan, component) {
            prop_assert_eq!(
                whose,
                BTreeSet::from([component.clone()]),
                "{} reaches more through {}",
                component,
                import
            );
        }
        let group = plan.group_of(component).expect("every component is placed");
        prop_assert_eq!(plan.groups.iter().filter(|group| group.components.contains(component)).count(), 1);
        for import in ty.imports.keys() {
            let host = group.imports.iter().filter(|it| it.component == *component && it.interface == *import).count();
            let seams: Vec<_> = plan
                .seams
                .iter()
                .filter(|seam| seam.link.importer == *component && seam.link.import == *import)
                .collect();
            prop_assert_eq!(host + seams.len(), 1, "{} of {} is not provided exactly once", import, component);
            let Some(seam) = seams.first() else { continue };
            let linked = group.links.iter().filter(|link| **link == seam.link).count();
            prop_assert_eq!(linked, usize::from(seam.mode == SeamMode::Fused));
            let place = |part: &ComponentName| group.components.iter().position(|other| other == part);
            if seam.mode == SeamMode::Fused {
                prop_assert!(place(&seam.link.exporter) < place(component), "an exporter comes first");
            } else {
                prop_assert_eq!(place(&seam.link.exporter), None);
            }
        }
    }
    prop_assert_eq!(plan.access.len(), app.components.len());
    let labels: Vec<_> = plan
        .groups
        .iter()
        .flat_map(|group| {
            group.imports.iter().filter_map(move |import| match &import.binding {
                ImportBinding::Labelled { label } => Some((&group.name, label)),
                _ => None,
            })
        })
        .collect();
    prop_assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "labels are unique");
    Ok(())
}

/// Returns a configuration with which every run has the same cases, unless `PROPTEST_RNG_SEED` is set.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    let rng_seed = if config.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { config.rng_seed };
    ProptestConfig { rng_seed, failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn plans_keep_their_invariants(parts in prop::collection::vec(part(), 1..COMPONENTS_MAX), monolith in any::<bool>()) {
        let shape = if monolith { "monolith" } else { "groups" };
        let (app, types) = app(&parts, false);
        let (turned, _) = self::app(&parts, true);
        match (plan(&app, &types, shape), plan(&turned, &types, shape)) {
            (Ok(plan), Ok(other)) => {
                check(&app, &types, &plan)?;
                let json = |plan: &Plan| serde_json::to_string(plan).expect("a plan is JSON");
                prop_assert_eq!(json(&plan), json(&other));
                prop_assert_eq!(plan.explain(), other.explain());
            }
            (Err(found), Err(other)) => {
                // The only error that generated apps can have is a cycle.
                prop_assert!(found.iter().all(|diagnostic| diagnostic.code == Some("cycle")), "{:?}", found);
                prop_assert_eq!(found, other);
            }
            (one, other) => prop_assert!(false, "order matters: {:?} and {:?}", one.is_ok(), other.is_ok()),
        }
    }
}

#[test]
fn similar_names_get_different_labels() {
    let mut app = App::single("x.wasm".as_ref(), Grants::default());
    let template = app.components.pop_first().expect("there is one").1;
    let mut types = BTreeMap::new();
    for part in ["a", "a-wasi"] {
        let mut component = template.clone();
        component.routes.clear();
        app.components.insert(name(part), component);
    }
    app.shapes.clear();
    app.shapes.insert("monolith".to_owned(), Shape::default());
    let exporters = ["wasi:cli/environment@0.2.0", "wasi:cli/environment@0.2.6", "wasi:cli/environment@0.3.0"];
    types.insert(name("a"), component(&exporters, &[]));
    types.insert(name("a-wasi"), component(&exporters, &[]));
    let plan = plan(&app, &types, "monolith").expect("it is right");
    let labels: BTreeSet<_> = plan.groups[0].imports.iter().map(|import| format!("{:?}", import.binding)).collect();
    assert_eq!(labels.len(), 6);
}
