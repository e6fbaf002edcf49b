//! The metrics of requests to the front door, and of requests to external servers.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::catalog;
use super::cell::Gauge;
use super::descriptor::MetricDescriptor;
use super::group::SeriesGroup;
use super::histogram::Histogram;
use crate::TraceId;

/// The method of a request. All uncommon methods share one value, because clients can send any text as a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of HTTP")]
pub enum MethodClass {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// Status 100 to 199.
    Informational,
    /// Status 200 to 299.
    Success,
    /// Status 300 to 399.
    Redirection,
    /// Status 400 to 499.
    ClientError,
    /// Status 500 or higher.
    ServerError,
    /// The response was not sent completely.
    CutOff,
    /// There was no response.
    Failed,
}

const METHODS: usize = 8;
const STATUSES: usize = 7;

impl MethodClass {
    /// Returns the class in which requests with this HTTP method are counted.
    pub fn of(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// Returns the value of the label `method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "_OTHER",
        }
    }
}

impl StatusClass {
    /// Returns the class of a status code; 0 means that there was no response.
    pub fn of(status: u16) -> Self {
        match status {
            0 => Self::Failed,
            1..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// Returns the value of the label `status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::CutOff => "cut_off",
            Self::Failed => "failed",
        }
    }
}

/// The series of one route, or those of a component's requests to external servers.
#[derive(Debug)]
pub struct RouteMetrics {
    group: Arc<SeriesGroup>,
    duration: &'static MetricDescriptor,
    /// The values of the labels that precede `method`. Does not contain the labels of the group, which `group` adds.
    labels: Vec<Arc<str>>,
    /// The gauge of requests in progress, created when it is first needed; `None` if requests in progress are not
    /// counted.
    active: Option<OnceLock<Arc<Gauge>>>,
    /// The histogram for each method and result, created when it is first needed.
    durations: [OnceLock<Arc<Histogram>>; METHODS * STATUSES],
}

impl Default for RouteMetrics {
    /// Returns metrics that no snapshot contains.
    fn default() -> Self {
        Self::with(Arc::default(), &catalog::HTTP_SERVER_DURATION, Vec::new(), None)
    }
}

impl RouteMetrics {
    /// Returns the metrics of a route. `group` has the series of the route's app.
    pub fn of_route(group: Arc<SeriesGroup>, component: &str, route: &str) -> Arc<Self> {
        let labels = vec![component.into(), route.into()];
        Arc::new(Self::with(group, &catalog::HTTP_SERVER_DURATION, labels, Some(OnceLock::new())))
    }

    /// Returns the metrics of an app's requests that were refused before their route was found.
    pub fn of_app(group: Arc<SeriesGroup>) -> Arc<Self> {
        Arc::new(Self::with(group, &catalog::HTTP_SERVER_DURATION, vec!["".into(); 2], None))
    }

    /// Returns the metrics of requests that were refused before their app was found. `group` has the series of the
    /// process.
    pub fn of_process(group: Arc<SeriesGroup>) -> Arc<Self> {
        let labels = vec!["".into(); 4];
        Arc::new(Self::with(group, &catalog::HTTP_SERVER_DURATION, labels, None))
    }

    /// Returns the metrics of a component's requests to external servers.
    pub fn of_outbound(group: Arc<SeriesGroup>, component: &str) -> Arc<Self> {
        Arc::new(Self::with(group, &catalog::HTTP_CLIENT_DURATION, vec![component.into()], None))
    }

    fn with(
        group: Arc<SeriesGroup>,
        duration: &'static MetricDescriptor,
        labels: Vec<Arc<str>>,
        active: Option<OnceLock<Arc<Gauge>>>,
    ) -> Self {
        Self { group, duration, labels, active, durations: [const { OnceLock::new() }; METHODS * STATUSES] }
    }

    /// Returns whether snapshots contain the series.
    fn is_recorded(&self) -> bool {
        self.group.is_recorded()
    }

    /// Records a request that has ended.
    pub fn record(&self, method: MethodClass, status: StatusClass, duration: Duration, trace: Option<TraceId>) {
        let cell = &self.durations[method as usize * STATUSES + status as usize];
        cell.get_or_init(|| self.series(method, status)).record(duration, trace);
    }

    #[cold]
    fn series(&self, method: MethodClass, status: StatusClass) -> Arc<Histogram> {
        let labels = self.labels.iter().map(|label| &**label).chain([method.name(), status.name()]);
        self.group.histogram(self.duration, &labels.collect::<Vec<_>>())
    }

    fn add_active(&self, count: i64) {
        if let Some(active) = &self.active {
            active.get_or_init(|| self.active_series()).add(count);
        }
    }

    #[cold]
    fn active_series(&self) -> Arc<Gauge> {
        let labels: Vec<_> = self.labels.iter().map(|label| &**label).collect();
        self.group.gauge(&catalog::HTTP_SERVER_ACTIVE, &labels)
    }
}

/// Measures a request in progress. The request is recorded when it ends, or when this value is dropped.
#[derive(Debug)]
pub struct RequestMeter {
    /// The metrics of the request's route; `None` until the route is known. Set only once, because each
    /// clone and each drop of the `Arc` changes its reference count, which may require waiting for another processor.
    metrics: Option<Arc<RouteMetrics>>,
    start: Instant,
    method: MethodClass,
    status: StatusClass,
    trace: Option<TraceId>,
}

impl RequestMeter {
    /// Begins to measure a request that arrived at `start`, and whose route is not known yet.
    pub fn begin(method: MethodClass, start: Instant) -> Self {
        Self { metrics: None, start, method, status: StatusClass::Failed, trace: None }
    }

    /// Sets the series in which the request is counted. Does nothing if no snapshot contains these series, or if the
    /// series are already set.
    pub fn set_metrics(&mut self, metrics: &Arc<RouteMetrics>) {
        if self.metrics.is_none() && metrics.is_recorded() {
            metrics.add_active(1);
            self.metrics = Some(metrics.clone());
        }
    }

    /// Sets the status of the response.
    pub fn set_status(&mut self, status: u16) {
        self.status = StatusClass::of(status);
    }

    /// Records that the response was not sent completely.
    pub fn set_cut_off(&mut self) {
        self.status = StatusClass::CutOff;
    }

    /// Sets the trace of the request, which must be sampled. The request can then become an exemplar of its histogram.
    pub fn set_trace(&mut self, trace: TraceId) {
        self.trace = Some(trace);
    }

    /// Records the request. Returns its duration.
    pub fn end(&mut self) -> Duration {
        let duration = self.start.elapsed();
        self.record(duration);
        duration
    }

    fn record(&mut self, duration: Duration) {
        if let Some(metrics) = self.metrics.take() {
            metrics.add_active(-1);
            metrics.record(self.method, self.status, duration, self.trace);
        }
    }
}

impl Drop for RequestMeter {
    fn drop(&mut self) {
        if self.metrics.is_some() {
            self.record(self.start.elapsed());
        }
    }
}
