//! How often an instance of a group is used again.
//!
//! A runtime for WASI 0.2 may serve one request per instance and no more (componentize-js does), as the interface has always been offered
//! like that. So a component whose handler is of WASI 0.2 has a fresh instance for each request unless the manifest says otherwise; all
//! others are used again.

use std::collections::BTreeMap;

use isomer_ids::ComponentName;
use isomer_manifest::{App, Reuse};

use crate::model::{Http, PlannedGroup};

/// What decides how often instances of a group are used again.
struct Decided<'a> {
    reuse: Reuse,
    by: &'a ComponentName,
    /// Nothing in the manifest says so: its handler is of WASI 0.2.
    is_default: bool,
}

/// Requests and calls that one instance serves, for groups where that is bounded, by name.
pub(crate) fn bounds(app: &App, groups: &[PlannedGroup]) -> BTreeMap<String, u32> {
    let bound = |group: &PlannedGroup| Some((group.name.clone(), decide(app, group)?.reuse.times()?));
    groups.iter().filter_map(bound).collect()
}

/// Groups whose components could be used again but for one among them.
pub(crate) fn notes(app: &App, groups: &[PlannedGroup]) -> Vec<String> {
    let note = |group: &PlannedGroup| {
        let decided = decide(app, group)?;
        let is_alone = group.components.len() == 1;
        (decided.is_default && !is_alone).then(|| {
            format!(
                "every request of group `{}` has a fresh instance, as `{}` answers requests of WASI 0.2: `reuse = true` for it lets \
                 instances be used again",
                group.name, decided.by
            )
        })
    };
    groups.iter().filter_map(note).collect()
}

/// The component of a group that allows the fewest requests.
fn decide<'a>(app: &App, group: &'a PlannedGroup) -> Option<Decided<'a>> {
    let of = |by: &'a ComponentName| {
        let said = app.components.get(by).and_then(|component| component.reuse);
        let reuse = said.unwrap_or(if answers_p2(group, by) { Reuse::FRESH } else { Reuse::Unbounded });
        Decided { reuse, by, is_default: said.is_none() && reuse == Reuse::FRESH }
    };
    group.components.iter().map(of).min_by_key(|decided| decided.reuse)
}

/// Does a component answer requests of WASI 0.2, from the front door or from another component of the group?
fn answers_p2(group: &PlannedGroup, component: &ComponentName) -> bool {
    let routed = group.handlers.iter().any(|handler| handler.component == *component && handler.http == Http::P2);
    let is_handler = |track: &str| track == "wasi:http/incoming-handler@0.2";
    routed || group.links.iter().any(|link| link.exporter == *component && is_handler(&link.export.track()))
}
