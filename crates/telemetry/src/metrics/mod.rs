//! Metrics: numbers about the apps and the process that add up over time.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`catalog`] | the descriptors of all metrics |
//! | `descriptor` | what a descriptor contains; names in Prometheus' form |
//! | `cell` | counters and gauges |
//! | `buckets`, `histogram`, `exemplar` | histograms of durations, with exemplars |
//! | `registry`, `group`, `budget` | all series of the process, by app; the bounds on their number |
//! | `http`, `seam`, `instance`, `store` | the series of a route, a seam, a group's instances and a store, resolved once |
//! | `guest` | the metrics that components report themselves |
//! | `dropped` | totals of dropped telemetry |
//! | `process_series`, `accumulated_value` | the series of another process of the same app |
//! | `snapshot` | the values of all metrics at one time |
//! | `text` | snapshots as Prometheus text and as OpenMetrics |
//!
//! Recording a value takes no lock. The code that serves requests holds the series of its route, seam or store, so it
//! never looks up a series by its labels. A series is created when its first value is recorded, because most
//! combinations of labels never occur: a route that only serves `GET` has no series for `POST`. So only the first value
//! of a series allocates memory.
//!
//! The number of series is bounded, because each takes memory in this process and in the system that stores the
//! metrics. The values of labels come from plans, from names of tenants and apps, and from enums; no client chooses
//! them. Only a component's own metrics have names and attributes that the component chooses, within the bounds in
//! `guest`. [`SERIES_MAX`] and [`SERIES_PER_APP_MAX`] apply in addition, and refused series are counted.
//!
//! Numbers that other types count anyway, such as the memory of an account, are not counted twice: a [`MetricSource`]
//! adds them to a snapshot.

mod accumulated_value;
mod buckets;
mod budget;
pub mod catalog;
mod cell;
mod descriptor;
mod dropped;
mod exemplar;
mod group;
mod guest;
mod histogram;
mod http;
mod instance;
mod process_series;
mod registry;
mod seam;
mod snapshot;
mod store;
mod text;

pub use buckets::Buckets;
pub use cell::{Counter, Gauge, Number};
pub use descriptor::{MetricDescriptor, MetricKind, MetricLabel, MetricUnit, Overlap};
pub(crate) use dropped::SPANS_DROPPED;
pub use exemplar::Exemplar;
pub use group::{SERIES_PER_APP_MAX, SeriesGroup};
pub use guest::{
    GUEST_METRIC_ATTRIBUTES_BYTES_MAX, GUEST_METRIC_ATTRIBUTES_MAX, GUEST_METRIC_NAME_BYTES_MAX,
    GUEST_SERIES_PER_APP_MAX, GuestMetrics, GuestSeries,
};
pub use histogram::{Histogram, HistogramValue};
pub use http::{MethodClass, RequestMeter, RouteMetrics, StatusClass};
pub use instance::InstanceMetrics;
pub use process_series::{ProcessSeries, SERIES_PER_PROCESS_MAX};
pub use registry::{MetricSource, Metrics, SERIES_MAX};
pub use seam::{CallOutcome, CallSeries, SeamLabels, SeamMetrics};
pub use snapshot::{MetricFamily, MetricScope, MetricSeries, MetricValue, SNAPSHOT_SERIES_MAX, Snapshot};
pub use store::StoreMetrics;
pub use text::TextFormat;
