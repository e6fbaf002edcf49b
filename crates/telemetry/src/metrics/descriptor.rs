//! The description of a metric: its name, unit, kind, labels and meaning.

use super::buckets::Buckets;

/// A metric. All descriptors are constants in [`catalog`](super::catalog).
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDescriptor {
    /// The name as in OpenTelemetry's semantic conventions, such as `http.server.request.duration`.
    pub name: &'static str,
    /// The unit of the values.
    pub unit: MetricUnit,
    /// The kind, which says how values add up.
    pub kind: MetricKind,
    /// The value of a series of several processes that run at the same time.
    pub overlap: Overlap,
    /// The labels of each series, in the order of [`MetricSeries::labels`](super::MetricSeries).
    pub labels: &'static [MetricLabel],
    /// The meaning in one sentence.
    pub help: &'static str,
}

/// A label of a metric.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricLabel {
    /// The name in Prometheus' form and in the admin API.
    pub name: &'static str,
    /// The key of the attribute in OpenTelemetry's form.
    pub attribute: &'static str,
    /// The meaning of the values.
    pub help: &'static str,
}

/// The unit of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number of objects, such as `requests`.
    Count(&'static str),
}

/// The kind of values that a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A total that only increases while the process runs.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// The distribution of durations.
    Histogram(Buckets),
}

/// The value of a series of several processes that run the same part of an app at the same time, as during a change of
/// the app's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The sum of the values of all processes.
    Sum,
    /// The value of the process that was started last. For gauges whose sum has no meaning, such as limits.
    Latest,
}

impl MetricUnit {
    /// Returns the unit in the notation of UCUM, as OpenTelemetry uses it.
    pub fn ucum(self) -> String {
        match self {
            Self::Seconds => "s".to_owned(),
            Self::Bytes => "By".to_owned(),
            Self::Count(objects) => format!("{{{}}}", objects.trim_end_matches('s')),
        }
    }

    /// Returns the unit as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Count(objects) => objects,
        }
    }

    /// Returns the unit's suffix in names of Prometheus; numbers of objects have none.
    pub(crate) fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Seconds | Self::Bytes => Some(self.word()),
            Self::Count(_) => None,
        }
    }
}

impl MetricKind {
    /// Returns the kind as Prometheus names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl MetricDescriptor {
    /// Returns the name in the form that OpenTelemetry's specification prescribes for Prometheus, without the suffix
    /// `_total` of counters: `http_server_request_duration_seconds`.
    pub fn family_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if let Some(suffix) = self.unit.suffix() {
            name.push('_');
            name.push_str(suffix);
        }
        name
    }

    /// Returns the name of the metric's samples in Prometheus' form: the family name, with `_total` for counters.
    pub fn prometheus_name(&self) -> String {
        let mut name = self.family_name();
        if self.kind == MetricKind::Counter {
            name.push_str("_total");
        }
        name
    }
}
