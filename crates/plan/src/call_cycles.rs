//! Finds compositions that call each other in a cycle.
//!
//! Such calls work, and the plan contains a note about them. A request that goes through the cycle holds an instance of
//! the first composition while it waits for a second instance of the same composition. If all instances are busy, the
//! call is refused. This cannot happen if the components are fused into one composition.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Seam;
use crate::planned_group::{PlannedGroup, SeamMode};

/// Returns one note for each cycle of calls among `groups`.
pub(crate) fn notes(groups: &[PlannedGroup], seams: &[Seam]) -> Vec<String> {
    let group_of = |component| groups.iter().find(|group| group.components.contains(component));
    let mut calls = BTreeMap::<&str, BTreeSet<&str>>::new();
    for seam in seams.iter().filter(|seam| seam.mode != SeamMode::Fused) {
        if let (Some(from), Some(to)) = (group_of(&seam.link.importer), group_of(&seam.link.exporter)) {
            calls.entry(&from.name).or_default().insert(&to.name);
        }
    }
    let mut noted = BTreeSet::new();
    let mut notes = vec![];
    for start in calls.keys() {
        let Some(path) = shortest_cycle(&calls, start) else { continue };
        let members: BTreeSet<_> = path.iter().copied().collect();
        if noted.insert(members) {
            notes.push(format!(
                "calls form a cycle: {} → {start}; a request may wait for a second instance of `{start}` while it holds one",
                path.join(" → ")
            ));
        }
    }
    notes
}

/// Returns the shortest path of calls from `start` back to itself, without the final `start`.
fn shortest_cycle<'a>(calls: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut paths = std::collections::VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        for next in calls.get(path.last()?).into_iter().flatten() {
            if *next == start {
                return Some(path);
            }
            if seen.insert(*next) {
                paths.push_back(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}
