//! The registry of all series of a process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::budget::SeriesBudget;
use super::catalog;
use super::dropped::SPANS_DROPPED;
use super::group::SeriesGroup;
use super::snapshot::{MetricScope, MetricValue, Snapshot};
use crate::AppIdentity;

/// The maximum number of series of a process. A series of a histogram takes about 400 bytes.
pub const SERIES_MAX: usize = 20_000;

/// Provides the values of metrics that another type counts. Called for each snapshot of the metrics.
pub trait MetricSource: Send + Sync {
    /// Adds the current values of the source's metrics to a snapshot of all metrics.
    fn collect(&self, snapshot: &mut Snapshot);
}

/// All metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

/// The series of apps, by the names of tenant and app.
type AppGroups = BTreeMap<(Arc<str>, Arc<str>), Arc<SeriesGroup>>;

struct Registry {
    /// Whether series are recorded. If not, snapshots still contain the values that sources add, because the sources
    /// count them anyway.
    is_enabled: bool,
    /// The series of the process itself.
    process: Arc<SeriesGroup>,
    groups: Mutex<AppGroups>,
    sources: Mutex<Vec<Weak<dyn MetricSource>>>,
    budget: Arc<SeriesBudget>,
    /// The number of look-ups of groups.
    look_ups: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with_bound(SERIES_MAX, true)
    }
}

impl Metrics {
    /// Creates a registry that records no series. Its snapshots contain only the values that sources add.
    pub fn disabled() -> Self {
        Self::with_bound(0, false)
    }

    /// Creates a registry for at most `series_max` series.
    fn with_bound(series_max: usize, is_enabled: bool) -> Self {
        let budget = Arc::new(SeriesBudget::new(series_max));
        let process = if is_enabled { SeriesGroup::new(None, budget.clone()) } else { SeriesGroup::default() };
        Self(Arc::new(Registry {
            is_enabled,
            process: Arc::new(process),
            groups: Mutex::default(),
            sources: Mutex::default(),
            budget,
            look_ups: AtomicU64::new(0),
        }))
    }

    /// Returns the series of the process itself.
    pub fn process(&self) -> &Arc<SeriesGroup> {
        &self.0.process
    }

    /// Returns the series of an app. They continue to exist when the app is evicted from memory. While the number of
    /// series is near its maximum, removes the series of apps that are not in memory, the least recently loaded app
    /// first.
    pub fn app(&self, app: &AppIdentity) -> Arc<SeriesGroup> {
        if !self.0.is_enabled {
            return Arc::default();
        }
        let mut groups = self.groups();
        while self.0.budget.is_nearly_full() && remove_unused(&mut groups) {}
        let new = || Arc::new(SeriesGroup::new(Some(app), self.0.budget.clone()));
        let group = groups.entry((app.tenant.clone(), app.app.clone())).or_insert_with(new);
        group.touch(self.0.look_ups.fetch_add(1, Ordering::Relaxed));
        group.clone()
    }

    /// Removes the series of an app that was removed. If an app with the same name is added later, its series start at
    /// 0.
    pub fn remove_app(&self, tenant: &str, app: &str) {
        self.groups().remove(&(Arc::from(tenant), Arc::from(app)));
    }

    /// Adds a source for all later snapshots, unless it was added before. The source is removed when it is dropped.
    pub fn add_source(&self, source: Weak<dyn MetricSource>) {
        let mut sources = self.sources();
        sources.retain(|source| source.strong_count() > 0);
        if !sources.iter().any(|known| std::ptr::addr_eq(known.as_ptr(), source.as_ptr())) {
            sources.push(source);
        }
    }

    /// Returns the values of all metrics that a client with the given scope may see.
    pub fn snapshot(&self, scope: MetricScope) -> Snapshot {
        let mut snapshot = Snapshot::new(scope);
        self.process().collect(&mut snapshot);
        let groups: Vec<_> = self.groups().values().cloned().collect();
        for group in groups {
            group.collect(&mut snapshot);
        }
        let sources = self.sources().clone();
        for source in sources.iter().filter_map(Weak::upgrade) {
            source.collect(&mut snapshot);
        }
        let (series, refused) = (self.0.budget.series(), self.0.budget.refused() + snapshot.refused());
        snapshot.push(&catalog::TELEMETRY_SERIES, vec![], MetricValue::integer(series as u64));
        let spans = SPANS_DROPPED.get();
        for (signal, reason, number) in [("metrics", "too many series", refused), ("spans", "too many spans", spans)] {
            let labels = vec![signal.into(), reason.into()];
            snapshot.push(&catalog::TELEMETRY_DROPPED, labels, MetricValue::integer(number));
        }
        snapshot
    }

    fn groups(&self) -> MutexGuard<'_, AppGroups> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Weak<dyn MetricSource>>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("series", &self.0.budget.series()).finish_non_exhaustive()
    }
}

/// Of the apps that are not in memory, removes the series of the least recently loaded one. Returns `false` if all apps
/// are in memory.
fn remove_unused(groups: &mut AppGroups) -> bool {
    // If a group has one reference, it is the registry's: the app is not in memory. No other thread can get a reference
    // to it while the lock is held.
    let unused = groups.iter().filter(|(_, group)| Arc::strong_count(group) == 1);
    let oldest = unused.min_by_key(|(_, group)| group.last_used()).map(|(key, _)| key.clone());
    oldest.is_some_and(|key| groups.remove(&key).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::group::SERIES_PER_APP_MAX;
    use super::*;

    fn app(name: &str) -> AppIdentity {
        AppIdentity { tenant: "acme".into(), app: name.into() }
    }

    fn values(metrics: &Metrics, name: &str) -> Vec<(String, f64)> {
        let snapshot = metrics.snapshot(MetricScope::All);
        let family = snapshot.families().find(|family| family.descriptor.name == name);
        let series = family.into_iter().flat_map(|family| &family.series);
        series.map(|series| (series.labels.join(" "), series.value.number().unwrap_or(f64::NAN))).collect()
    }

    fn active(metrics: &Metrics) -> Vec<String> {
        values(metrics, "http.server.active_requests").into_iter().map(|(labels, _)| labels).collect()
    }

    #[test]
    fn a_series_exists_once_and_ends_with_its_app() {
        let metrics = Metrics::default();
        let shop = metrics.app(&app("shop"));
        shop.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(2);
        metrics.app(&app("shop")).gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(1);
        let found = values(&metrics, "http.server.active_requests");
        assert_eq!(found, [("acme shop web /".to_owned(), 3.0)]);
        metrics.remove_app("acme", "shop");
        assert!(active(&metrics).is_empty());
        drop(shop);
        assert_eq!(values(&metrics, "isomer.telemetry.series"), [(String::new(), 0.0)]);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_unused_apps_make_room() {
        let metrics = Metrics::with_bound(8, true);
        let fill = |group: &SeriesGroup, routes: std::ops::Range<u32>| {
            for route in routes {
                group.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", &route.to_string()]).add(1);
            }
        };
        fill(&metrics.app(&app("b")), 0..1);
        fill(&metrics.app(&app("a")), 0..1);
        let c = metrics.app(&app("c"));
        fill(&c, 0..6);
        assert_eq!(active(&metrics).len(), 8);
        fill(&c, 6..7);
        assert_eq!(values(&metrics, "isomer.telemetry.dropped")[0], ("metrics too many series".to_owned(), 1.0));
        fill(&metrics.app(&app("d")), 0..1);
        let found = active(&metrics);
        assert!(!found.contains(&"acme b web 0".to_owned()), "`b` was not loaded for the longest time: {found:?}");
        assert!(found.contains(&"acme a web 0".to_owned()) && found.contains(&"acme d web 0".to_owned()), "{found:?}");
    }

    #[test]
    fn a_disabled_registry_records_no_series() {
        let metrics = Metrics::disabled();
        let shop = metrics.app(&app("shop"));
        assert!(!shop.is_recorded() && !metrics.process().is_recorded());
        shop.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(1);
        assert!(active(&metrics).is_empty());
        assert_eq!(values(&metrics, "isomer.telemetry.series"), [(String::new(), 0.0)]);
    }

    #[test]
    fn the_number_of_series_of_an_app_is_bounded() {
        let metrics = Metrics::default();
        let shop = metrics.app(&app("shop"));
        for number in 0..=SERIES_PER_APP_MAX {
            shop.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", &number.to_string()]).add(1);
        }
        assert_eq!(active(&metrics).len(), SERIES_PER_APP_MAX);
    }

    #[test]
    fn a_source_is_asked_until_it_is_dropped() {
        struct Fixed;
        impl MetricSource for Fixed {
            fn collect(&self, snapshot: &mut Snapshot) {
                snapshot.push(&catalog::APPS, vec![], MetricValue::integer(7));
            }
        }
        let metrics = Metrics::default();
        let source: Arc<dyn MetricSource> = Arc::new(Fixed);
        metrics.add_source(Arc::downgrade(&source));
        assert_eq!(values(&metrics, "isomer.apps"), [(String::new(), 7.0)]);
        drop(source);
        assert_eq!(values(&metrics, "isomer.apps"), []);
    }
}
