//! The functions that are called across seams: those that a composition calls in other compositions, and its own
//! functions that other compositions call. Each function has a number.
//!
//! The generated stubs and skeletons use the same numbers, so the numbers must depend on the plan only.

use std::collections::{BTreeMap, BTreeSet};

use isomer_ids::ComponentName;
use isomer_wire::FunctionKey;

use crate::idempotent::Idempotent;
use crate::links::Types;
use crate::model::Seam;
use crate::planned_browser::PlannedBrowser;
use crate::planned_group::{PlannedSkeleton, PlannedStub, ResolvedImport, SeamMode, SkeletonFunction, StubFunction};

/// Returns the stubs of the composition that consists of `components`.
pub(crate) fn stubs(
    types: &Types,
    seams: &[Seam],
    idempotent: &Idempotent,
    components: &[ComponentName],
) -> Vec<PlannedStub> {
    let mut stubs = BTreeMap::<&ComponentName, Vec<StubFunction>>::new();
    for seam in crossing(seams).filter(|seam| components.contains(&seam.link.importer)) {
        let link = &seam.link;
        let import = &types[&link.importer].imports[&link.import];
        let functions = import.functions.iter().map(|(name, function)| StubFunction {
            interface: link.import.clone(),
            function: name.clone(),
            is_async: function.is_async,
            catches: function.catches,
            callee: link.exporter.clone(),
            key: key(link, name, &function.hash.0),
            mode: seam.mode,
            idempotent: idempotent.has(&link.exporter, &link.export, name),
        });
        stubs.entry(&link.importer).or_default().extend(functions);
    }
    stubs.into_iter().map(|(component, functions)| PlannedStub { component: component.clone(), functions }).collect()
}

/// Returns the skeletons of the composition that consists of `components`. A skeleton lists the functions of one
/// component that other compositions call, or that tabs call (`browser`).
pub(crate) fn skeletons(
    types: &Types,
    seams: &[Seam],
    browser: Option<&PlannedBrowser>,
    components: &[ComponentName],
) -> Vec<PlannedSkeleton> {
    let mut skeletons = BTreeMap::<&ComponentName, BTreeSet<SkeletonFunction>>::new();
    for seam in crossing(seams).filter(|seam| components.contains(&seam.link.exporter)) {
        let link = &seam.link;
        let export = &types[&link.exporter].exports[&link.export];
        let used = seam.functions.iter().filter_map(|name| export.functions.get_key_value(name));
        let functions = used.map(|(name, function)| SkeletonFunction {
            interface: link.export.clone(),
            function: name.clone(),
            is_async: function.is_async,
            key: key(link, name, &function.hash.0),
        });
        skeletons.entry(&link.exporter).or_default().extend(functions);
    }
    for (seam, function) in browser.into_iter().flat_map(PlannedBrowser::functions) {
        if components.contains(&seam.link.exporter) {
            skeletons.entry(&seam.link.exporter).or_default().insert(SkeletonFunction {
                interface: function.interface.clone(),
                function: function.function.clone(),
                is_async: function.is_async,
                key: function.key,
            });
        }
    }
    let skeleton = |(component, functions): (&ComponentName, BTreeSet<_>)| PlannedSkeleton {
        component: component.clone(),
        functions: functions.into_iter().collect(),
    };
    skeletons.into_iter().map(skeleton).collect()
}

fn crossing(seams: &[Seam]) -> impl Iterator<Item = &Seam> {
    seams.iter().filter(|seam| seam.mode != SeamMode::Fused)
}

/// Returns the key of a function. The caller's and the callee's composition compute the same key, because it is made of
/// the component, the interface's name as the callee exports it, the function's name and the type hash.
pub(crate) fn key(link: &ResolvedImport, function: &str, hash: &[u8; 16]) -> FunctionKey {
    FunctionKey::new(link.exporter.as_str(), &link.export.to_string(), function, hash)
}
