//! Decides how many requests an instance of a group serves.
//!
//! A language runtime for WASI 0.2 may be able to serve only one request per instance (componentize-js is an example),
//! because hosts have always created an instance for each request. So a component whose handler implements WASI 0.2
//! gets a new instance for each request unless the manifest sets `reuse`. All other instances are reused.

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use isomer_manifest::{App, Reuse};

use crate::planned_group::{Http, PlannedGroup};

/// The reuse of a group's instances, and the component (`by`) that determines it.
struct Decided<'a> {
    reuse: Reuse,
    by: &'a ComponentName,
    /// Whether each request gets a new instance because of the default: the handler implements WASI 0.2, and the
    /// manifest does not set `reuse`.
    is_default: bool,
}

/// Returns the number of requests and calls that one instance serves, by group. Groups without a limit are left out.
pub(crate) fn bounds(app: &App, groups: &[PlannedGroup]) -> BTreeMap<String, u32> {
    let bound = |group: &PlannedGroup| Some((group.name.clone(), decide(app, group)?.reuse.times()?));
    groups.iter().filter_map(bound).collect()
}

/// Returns a note for each group of several components in which one component prevents the reuse of instances.
pub(crate) fn notes(app: &App, groups: &[PlannedGroup]) -> Vec<String> {
    let note = |group: &PlannedGroup| {
        let decided = decide(app, group)?;
        let is_single = group.components.len() == 1;
        (decided.is_default && !is_single).then(|| {
            format!(
                "group `{}` uses a new instance for every request, because `{}` handles requests of WASI 0.2; to reuse instances, set \
                 `reuse = true` for this component",
                group.name, decided.by
            )
        })
    };
    groups.iter().filter_map(note).collect()
}

/// Returns the decision for the group: that of the component that allows the fewest requests per instance.
fn decide<'a>(app: &App, group: &'a PlannedGroup) -> Option<Decided<'a>> {
    let decision_of = |by: &'a ComponentName| {
        let written = app.components.get(by).and_then(|component| component.reuse);
        let reuse = written.unwrap_or(if answers_p2(group, by) { Reuse::FRESH } else { Reuse::Unbounded });
        Decided { reuse, by, is_default: written.is_none() && reuse == Reuse::FRESH }
    };
    group.components.iter().map(decision_of).min_by_key(|decided| decided.reuse)
}

/// Returns whether the component handles HTTP requests through WASI 0.2. The requests come from the front door or from
/// another component of the group.
fn answers_p2(group: &PlannedGroup, component: &ComponentName) -> bool {
    let routed = group.handlers.iter().any(|handler| handler.component == *component && handler.http == Http::P2);
    let is_handler = |track: &str| track == "wasi:http/incoming-handler@0.2";
    routed || group.links.iter().any(|link| link.exporter == *component && is_handler(&link.export.track()))
}
