//! The groups of a process that have probed code. Their number is bounded, because the code takes memory in addition to
//! the memory of the loaded apps.

use std::sync::{Mutex, PoisonError, Weak};

use isomer_runtime::Graph;

/// A group that may have probed code.
trait Probed {
    /// Returns the time of the last use of the probed code; `None` if the group has none any more.
    fn used(&self) -> Option<u64>;

    fn remove(&self);
}

/// The groups that have probed code.
pub(crate) struct ProbedGroups(List<GroupInGraph>);

struct List<G> {
    groups_max: usize,
    groups: Mutex<Vec<G>>,
}

struct GroupInGraph {
    graph: Weak<Graph>,
    index: usize,
}

impl Probed for GroupInGraph {
    fn used(&self) -> Option<u64> {
        self.graph.upgrade()?.probed_code_used(self.index)
    }

    fn remove(&self) {
        if let Some(graph) = self.graph.upgrade() {
            graph.remove_probed_code(self.index);
        }
    }
}

impl ProbedGroups {
    /// Returns an empty list of at most `groups_max` groups.
    pub(crate) fn new(groups_max: usize) -> Self {
        Self(List { groups_max, groups: Mutex::default() })
    }

    /// Adds a group that has just got probed code. If there are too many groups, removes the probed code that was not
    /// used for the longest time.
    pub(crate) fn add(&self, graph: Weak<Graph>, index: usize) {
        self.0.add(GroupInGraph { graph, index });
    }
}

impl<G: Probed> List<G> {
    fn add(&self, group: G) {
        let removed = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.retain(|group| group.used().is_some());
            let is_full = groups.len() >= self.groups_max.max(1);
            let oldest = groups.iter().enumerate().filter(|_| is_full).min_by_key(|(_, group)| group.used());
            let removed = oldest.map(|(position, _)| position).map(|position| groups.swap_remove(position));
            groups.push(group);
            removed
        };
        if let Some(removed) = removed {
            removed.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A group whose probed code was last used at a time; 0 if it has no probed code.
    impl Probed for Arc<AtomicU64> {
        fn used(&self) -> Option<u64> {
            Some(self.load(Ordering::Relaxed)).filter(|used| *used > 0)
        }

        fn remove(&self) {
            self.store(0, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_least_recently_used_code_is_removed_if_there_is_too_much() {
        let list = List { groups_max: 2, groups: Mutex::default() };
        let groups = [3, 2, 1, 5].map(|used| Arc::new(AtomicU64::new(used)));
        let used = || groups.each_ref().map(|group| group.load(Ordering::Relaxed));
        list.add(groups[0].clone());
        list.add(groups[1].clone());
        list.add(groups[2].clone());
        assert_eq!(used(), [3, 0, 1, 5], "the new group is not removed, although its code was used earlier");
        // The app of the first group was evicted.
        groups[0].remove();
        list.add(groups[3].clone());
        assert_eq!(used(), [0, 0, 1, 5]);
    }
}
