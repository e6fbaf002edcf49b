//! The metrics that a component reports itself. The component chooses their names and attributes, so both are bounded.

use std::sync::Arc;

use super::catalog;
use super::cell::Number;
use super::descriptor::MetricDescriptor;
use super::group::SeriesGroup;

/// The maximum number of totals, and of values, that the components of one app report.
pub const GUEST_SERIES_PER_APP_MAX: usize = 200;

/// The maximum length in bytes of the name of a component's metric.
pub const GUEST_METRIC_NAME_BYTES_MAX: usize = 100;

/// The maximum number of attributes of a component's metric.
pub const GUEST_METRIC_ATTRIBUTES_MAX: usize = 8;

/// The maximum size in bytes of all attributes of a component's metric.
pub const GUEST_METRIC_ATTRIBUTES_BYTES_MAX: usize = 256;

/// The maximum length in bytes of the unit of a component's metric. A longer unit is left out.
const UNIT_BYTES_MAX: usize = 32;

/// The metrics that one component reports.
#[derive(Debug, Clone)]
pub struct GuestMetrics {
    group: Arc<SeriesGroup>,
    component: Arc<str>,
}

/// The identity of a value that a component reports, within the bounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestSeries {
    name: String,
    unit: String,
    attributes: String,
}

impl GuestSeries {
    /// Returns the series of the metric `name` with `attributes`; `None` if a bound is exceeded, or if the name contains
    /// other characters than letters, digits, `_`, `.`, `-` and `/`.
    pub fn new(name: &str, unit: &str, attributes: &[(&str, String)]) -> Option<Self> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
        let is_named = !name.is_empty() && name.len() <= GUEST_METRIC_NAME_BYTES_MAX && name.bytes().all(is_valid);
        if !is_named || attributes.len() > GUEST_METRIC_ATTRIBUTES_MAX {
            return None;
        }
        let mut pairs: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.sort();
        let attributes = pairs.join(",");
        let unit = if unit.len() <= UNIT_BYTES_MAX { unit } else { "" };
        let series = Self { name: name.to_owned(), unit: unit.to_owned(), attributes };
        (series.attributes.len() <= GUEST_METRIC_ATTRIBUTES_BYTES_MAX).then_some(series)
    }

    /// Returns the series for a part of this metric, such as the count of a histogram.
    #[must_use]
    pub fn part(&self, part: &str) -> Self {
        Self { name: format!("{}.{part}", self.name), ..self.clone() }
    }
}

impl GuestMetrics {
    /// Returns the metrics of `component`. `group` has the series of the component's app.
    pub fn new(group: Arc<SeriesGroup>, component: Arc<str>) -> Self {
        Self { group, component }
    }

    /// Adds `increase` to a total. Returns `false` if the app has too many totals.
    pub fn increase(&self, series: &GuestSeries, increase: f64) -> bool {
        let total = self.number(&catalog::GUEST_TOTAL, series, GUEST_SERIES_PER_APP_MAX);
        total.map(|total| total.add(increase.max(0.0))).is_some()
    }

    /// Adds `increase` to the total of a histogram's bucket. Returns `false` if the app has many totals: buckets leave room
    /// for other totals.
    pub fn increase_bucket(&self, series: &GuestSeries, increase: f64) -> bool {
        let total = self.number(&catalog::GUEST_TOTAL, series, GUEST_SERIES_PER_APP_MAX / 2);
        total.map(|total| total.add(increase.max(0.0))).is_some()
    }

    /// Replaces a value. Returns `false` if the app has too many values.
    pub fn set(&self, series: &GuestSeries, value: f64) -> bool {
        self.number(&catalog::GUEST_VALUE, series, GUEST_SERIES_PER_APP_MAX).map(|number| number.set(value)).is_some()
    }

    /// Adds `change`, which may be negative, to a value. Returns `false` if the app has too many values.
    pub fn change(&self, series: &GuestSeries, change: f64) -> bool {
        self.number(&catalog::GUEST_VALUE, series, GUEST_SERIES_PER_APP_MAX).map(|number| number.add(change)).is_some()
    }

    fn number(&self, metric: &'static MetricDescriptor, series: &GuestSeries, max: usize) -> Option<Arc<Number>> {
        let GuestSeries { name, unit, attributes } = series;
        self.group.number(metric, &[&*self.component, name, unit, attributes], max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AppIdentity;
    use crate::metrics::{MetricScope, Metrics};

    #[test]
    fn names_and_attributes_are_bounded() {
        let pairs = [("b", "2".to_owned()), ("a", "1".to_owned())];
        let series = GuestSeries::new("orders.placed", "{order}", &pairs).unwrap();
        assert_eq!((series.part("sum").name.as_str(), series.attributes.as_str()), ("orders.placed.sum", "a=1,b=2"));
        let long = "x".repeat(GUEST_METRIC_NAME_BYTES_MAX + 1);
        for name in ["", "a b", "a\"b", "é", &long] {
            assert_eq!(GuestSeries::new(name, "", &[]), None, "{name}");
        }
        let pair = || ("k", "v".to_owned());
        assert!(GuestSeries::new("a", "", &vec![pair(); GUEST_METRIC_ATTRIBUTES_MAX + 1]).is_none());
        assert!(GuestSeries::new("a", "", &[("k", "v".repeat(GUEST_METRIC_ATTRIBUTES_BYTES_MAX))]).is_none());
        assert_eq!(GuestSeries::new("a", &long, &[]).unwrap().unit, "");
    }

    #[test]
    fn the_series_of_an_app_are_bounded_and_do_not_crowd_out_those_of_the_platform() {
        let registry = Metrics::default();
        let group = registry.app(&AppIdentity { tenant: "acme".into(), app: "shop".into() });
        let metrics = GuestMetrics::new(group.clone(), "cart".into());
        let series = |number: usize| GuestSeries::new(&format!("m{number}"), "", &[]).unwrap();
        let accepted = (0..2 * GUEST_SERIES_PER_APP_MAX).filter(|number| metrics.increase(&series(*number), 1.5));
        assert_eq!(accepted.count(), GUEST_SERIES_PER_APP_MAX);
        assert!(metrics.increase(&series(0), 1.0) && metrics.increase(&series(0), -7.0));
        assert!(metrics.set(&series(0), 4.0) && metrics.change(&series(0), -0.5));
        group.gauge(&catalog::HTTP_SERVER_ACTIVE, &["web", "/"]).add(1);
        let snapshot = registry.snapshot(MetricScope::All);
        let value = |name: &str| {
            let family = snapshot.families().find(|family| family.descriptor.name == name).unwrap();
            family.series[0].value.number()
        };
        assert_eq!((value("isomer.app.amount"), value("isomer.app.value")), (Some(2.5), Some(3.5)));
        assert_eq!(value("http.server.active_requests"), Some(1.0));
    }
}
