//! The exporters of a process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isomer_telemetry::{EventSink, TraceSink};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Signal;
use crate::delivery::{Client, Exporter, Item, TlsError};
use crate::logs::{LogItem, OtlpLogs};
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
    stop: watch::Sender<bool>,
}

/// The queue and the task of one signal.
struct Pipeline<T> {
    signal: Signal,
    queue: QueueSender<T>,
    counters: Arc<SignalCounters>,
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
            stop,
        })
    }

    /// Returns the receiver of an app's traces, if traces are exported.
    pub fn traces(&self, identity: &ServiceIdentity<'_>) -> Option<Arc<dyn TraceSink>> {
        let pipeline = self.traces.as_ref()?;
        Some(Arc::new(OtlpTraces::new(self.template.of(identity), identity.tenant, pipeline.queue.clone())))
    }

    /// Returns the receiver of an app's events, if logs are exported.
    pub fn logs(&self, identity: &ServiceIdentity<'_>) -> Option<Arc<dyn EventSink>> {
        let pipeline = self.logs.as_ref()?;
        Some(Arc::new(OtlpLogs::new(self.template.of(identity), identity.tenant, pipeline.queue.clone())))
    }

    /// Returns what was exported and dropped since the start, for each exported signal.
    pub fn statistics(&self) -> Vec<SignalStatistics> {
        let traces = self.traces.as_ref().map(Pipeline::statistics);
        traces.into_iter().chain(self.logs.as_ref().map(Pipeline::statistics)).collect()
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
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            let waiting = self.queue.waiting_records();
            task.abort();
            self.counters.add_dropped(DropReason::Shutdown, waiting);
        }
    }
}

impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otlp").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
