//! The groups of a process that have probed code. Their number is bounded, because the code takes memory in addition to
//! the memory of the loaded apps. If there are too many groups, the tenant that has most of them loses probed code, so a
//! tenant with many sampled groups cannot remove the probed code of other tenants.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};

use isomer_ids::TenantName;
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
    /// The groups with their tenants.
    groups: Mutex<Vec<(TenantName, G)>>,
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

    /// Adds a group of `tenant` that has just got probed code. If there are too many groups, removes the probed code of
    /// one of the other groups: see [`excess`].
    pub(crate) fn add(&self, tenant: TenantName, graph: Weak<Graph>, index: usize) {
        self.0.add(tenant, GroupInGraph { graph, index });
    }
}

impl<G: Probed> List<G> {
    fn add(&self, tenant: TenantName, group: G) {
        let removed = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.retain(|(_, group)| group.used().is_some());
            let is_full = groups.len() >= self.groups_max.max(1);
            let excess = if is_full { excess(&groups, &tenant) } else { None };
            let removed = excess.map(|position| groups.swap_remove(position));
            groups.push((tenant, group));
            removed
        };
        if let Some((_, removed)) = removed {
            removed.remove();
        }
    }
}

/// Returns the position of the group that must be removed when a group of `adding` is added: among the groups of the
/// tenant that then has most groups, the one whose probed code was not used for the longest time. If several tenants have
/// equally many, `adding` loses a group if it has others than the new one.
fn excess<G: Probed>(groups: &[(TenantName, G)], adding: &TenantName) -> Option<usize> {
    let mut counts = BTreeMap::from([(adding, 1)]);
    groups.iter().for_each(|(tenant, _)| *counts.entry(tenant).or_insert(0) += 1);
    let most = counts.values().max().copied();
    let candidates = groups.iter().enumerate().filter(|(_, (tenant, _))| counts.get(tenant).copied() == most);
    let oldest = candidates.min_by_key(|(_, (tenant, group))| (tenant != adding, group.used()));
    oldest.map(|(position, _)| position)
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

    fn list(groups_max: usize) -> List<Arc<AtomicU64>> {
        List { groups_max, groups: Mutex::default() }
    }

    fn tenant(name: &str) -> TenantName {
        name.parse().expect("a valid name")
    }

    #[test]
    fn the_least_recently_used_code_is_removed_if_there_is_too_much() {
        let list = list(2);
        let groups = [3, 2, 1, 5].map(|used| Arc::new(AtomicU64::new(used)));
        let used = || groups.each_ref().map(|group| group.load(Ordering::Relaxed));
        let add = |index: usize| list.add(tenant("a"), groups[index].clone());
        (0..3).for_each(add);
        assert_eq!(used(), [3, 0, 1, 5], "the new group is not removed, although its code was used earlier");
        // The app of the first group was evicted.
        groups[0].remove();
        add(3);
        assert_eq!(used(), [0, 0, 1, 5]);
    }

    #[test]
    fn the_tenant_with_most_groups_loses_code() {
        let list = list(4);
        let groups = [9, 8, 7, 1, 6, 5, 2].map(|used| Arc::new(AtomicU64::new(used)));
        let used = || groups.each_ref().map(|group| group.load(Ordering::Relaxed));
        let add = |name: &str, index: usize| list.add(tenant(name), groups[index].clone());
        (0..3).for_each(|index| add("many", index));
        add("few", 3);
        assert_eq!(used(), [9, 8, 7, 1, 6, 5, 2]);
        add("many", 4);
        assert_eq!(used(), [9, 8, 0, 1, 6, 5, 2], "a tenant with many groups loses its own, not older ones of others");
        add("few", 5);
        assert_eq!(used(), [9, 8, 0, 1, 0, 5, 2]);
        // Both tenants have two groups.
        add("few", 6);
        assert_eq!(used(), [9, 8, 0, 0, 0, 5, 2]);
    }

    #[test]
    fn a_full_list_of_one_group_of_each_tenant_loses_the_least_recently_used_one() {
        let list = list(2);
        let groups = [2, 1, 3].map(|used| Arc::new(AtomicU64::new(used)));
        for (name, group) in ["a", "b", "c"].into_iter().zip(&groups) {
            list.add(tenant(name), group.clone());
        }
        assert_eq!(groups.map(|group| group.load(Ordering::Relaxed)), [2, 0, 3]);
    }
}
