//! The exporters of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isomer_telemetry::metrics::{MetricSource, MetricValue, Metrics, Snapshot, catalog};
use isomer_telemetry::{EventSink, TraceSink};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Signal;
use crate::delivery::{Client, Exporter, Item, MetricsExporter, TlsError};
use crate::logs::{LogItem, OtlpLogs};
use crate::metrics::{ProcessIdentity, ServedApps};
use crate::queue::{self, QueueSender};
use crate::resource::{ResourceTemplate, ServiceIdentity};
use crate::settings::OtlpSettings;
use crate::statistics::{DropReason, SignalCounters, SignalStatistics};
use crate::traces::{OtlpTraces, TraceItem};

/// The maximum time for which [`Otlp::shutdown`] waits until waiting records are sent.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(2);

/// Exports the telemetry of this process.
pub struct Otlp {
    template: ResourceTemplate,
    traces: Option<Pipeline<TraceItem>>,
    logs: Option<Pipeline<LogItem>>,
    metrics: Option<MetricsPipeline>,
    stop: watch::Sender<bool>,
}

/// The queue and the task of one signal.
struct Pipeline<T> {
    signal: Signal,
    queue: QueueSender<T>,
    counters: Arc<SignalCounters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The export of metrics.
struct MetricsPipeline {
    counters: Arc<SignalCounters>,
    /// The client; `None` after the export was started.
    client: Mutex<Option<Client>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Otlp {
    /// Starts the tasks that send records. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// If a file for TLS cannot be used.
    pub fn start(settings: &OtlpSettings) -> Result<Self, TlsError> {
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            template: ResourceTemplate::new(settings),
            traces: Pipeline::start(settings, Signal::Traces, &stopped)?,
            logs: Pipeline::start(settings, Signal::Logs, &stopped)?,
            metrics: MetricsPipeline::new(settings)?,
            stop,
        })
    }

    /// Returns the receiver of an app's traces, if traces are exported.
    pub fn traces(&self, identity: &ServiceIdentity<'_>) -> Option<Arc<dyn TraceSink>> {
        let pipeline = self.traces.as_ref()?;
        let (resource, queue) = (self.template.of(identity), pipeline.queue.clone());
        Some(Arc::new(OtlpTraces::new(resource, identity.tenant, queue)))
    }

    /// Returns the receiver of an app's events, if logs are exported.
    pub fn logs(&self, identity: &ServiceIdentity<'_>) -> Option<Arc<dyn EventSink>> {
        let pipeline = self.logs.as_ref()?;
        let (resource, queue) = (self.template.of(identity), pipeline.queue.clone());
        Some(Arc::new(OtlpLogs::new(resource, identity.tenant, queue)))
    }

    /// Starts the periodic export of `metrics`, if this exporter is configured to export metrics. Only the first call
    /// has an effect. `process` is the app that this process serves, or the name of the process if it serves several
    /// apps. Must be called in a Tokio runtime.
    pub fn export_metrics(&self, metrics: &Metrics, process: &ServiceIdentity<'_>, apps: ServedApps) {
        let Some(pipeline) = &self.metrics else { return };
        let Some(client) = locked(&pipeline.client).take() else { return };
        let source = (metrics.clone(), self.template.clone(), ProcessIdentity::new(process, apps));
        let exporter = MetricsExporter::new(client, pipeline.counters.clone(), self.stop.subscribe(), source);
        *locked(&pipeline.task) = Some(tokio::spawn(exporter.run()));
    }

    /// Returns what was exported and dropped since the start, for each exported signal.
    pub fn statistics(&self) -> Vec<SignalStatistics> {
        let traces = self.traces.as_ref().map(Pipeline::statistics);
        let logs = self.logs.as_ref().map(Pipeline::statistics);
        let metrics = self.metrics.as_ref().map(|metrics| metrics.counters.snapshot(Signal::Metrics));
        [traces, logs, metrics].into_iter().flatten().collect()
    }

    /// Sends the waiting records, and stops the tasks, in at most [`SHUTDOWN_TIME_MAX`]. Records that could not be sent
    /// are dropped and counted, and so are later records.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + SHUTDOWN_TIME_MAX;
        if let Some(traces) = &self.traces {
            traces.end(deadline).await;
        }
        if let Some(logs) = &self.logs {
            logs.end(deadline).await;
        }
        if let Some(metrics) = &self.metrics {
            end(&metrics.task, deadline).await;
        }
    }
}

impl<T: Item> Pipeline<T> {
    fn start(
        settings: &OtlpSettings,
        signal: Signal,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Option<Self>, TlsError> {
        let Some(settings) = settings.signal(signal) else { return Ok(None) };
        let counters = Arc::new(SignalCounters::default());
        let (queue, received) = queue::bounded(settings.queue_records_max, counters.clone());
        let client = Client::new(settings.clone())?;
        let exporter = Exporter::new(client, received, counters.clone(), stopped.clone());
        let task = Mutex::new(Some(tokio::spawn(exporter.run())));
        Ok(Some(Self { signal, queue, counters, task }))
    }

    fn statistics(&self) -> SignalStatistics {
        self.counters.snapshot(self.signal)
    }

    /// Waits until the task has ended, or stops it at `deadline`.
    async fn end(&self, deadline: tokio::time::Instant) {
        if !end(&self.task, deadline).await {
            self.counters.add_dropped(DropReason::Shutdown, self.queue.waiting_records());
        }
    }
}

impl MetricsPipeline {
    fn new(settings: &OtlpSettings) -> Result<Option<Self>, TlsError> {
        let Some(settings) = settings.signal(Signal::Metrics) else { return Ok(None) };
        let client = Mutex::new(Some(Client::new(settings.clone())?));
        Ok(Some(Self { counters: Arc::default(), client, task: Mutex::default() }))
    }
}

/// Waits until a task has ended, or aborts it at `deadline`. Returns `false` if it was aborted.
async fn end(task: &Mutex<Option<JoinHandle<()>>>, deadline: tokio::time::Instant) -> bool {
    let Some(mut task) = locked(task).take() else { return true };
    let has_ended = tokio::time::timeout_at(deadline, &mut task).await.is_ok();
    if !has_ended {
        task.abort();
    }
    has_ended
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the number of dropped records of each signal to the metrics.
impl MetricSource for Otlp {
    fn collect(&self, snapshot: &mut Snapshot) {
        for SignalStatistics { signal, dropped, .. } in self.statistics() {
            for (reason, records) in dropped.into_iter().filter(|(_, records)| *records > 0) {
                let labels = vec![signal.name().into(), format!("export: {}", reason.name()).into()];
                snapshot.push(&catalog::TELEMETRY_DROPPED, labels, MetricValue::integer(records));
            }
        }
    }
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
