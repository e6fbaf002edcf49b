//! The metrics of a member, which the member sends to its supervisor in the same pipe as its log.
//!
//! The supervisor does not rely on the member, which runs guests: it admits only metrics that exist, with values of the
//! right kind and size, and limits the number of series and the length of labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isomer_telemetry::TraceId;
use isomer_telemetry::metrics::{
    Exemplar, HistogramValue, MetricDescriptor, MetricKind, MetricSource, MetricValue, Metrics, ProcessSeries,
    Snapshot, catalog,
};

use crate::member_metrics_sender::{MetricsLine, SERIES_PER_LINE, SentExemplar, SentValue};

/// The start of each line that contains metrics. No record of the log begins like this.
const LINE_START: &str = "{\"metrics\":[";

/// The maximum length of a label's value in bytes. Longer values are cut off.
const LABEL_BYTES_MAX: usize = 256;

/// The metrics of all members of an app as their supervisor shows them. Cheap to clone. The totals of members that have
/// ended are kept.
#[derive(Clone, Default)]
pub struct MembersMetrics(Arc<ReceivedMetrics>);

#[derive(Default)]
struct ReceivedMetrics(Mutex<MemberTable>);

#[derive(Default)]
struct MemberTable {
    /// The series of the members, by the members' names.
    members: BTreeMap<String, ProcessSeries>,
    /// The number of receivers that were created.
    receivers: u64,
}

/// Receives the metrics of one member. Dropping it ends the member's process.
pub struct MemberMetrics {
    members: MembersMetrics,
    name: String,
    /// The number of this receiver. A member of an earlier arrangement of the app may have the same name.
    number: u64,
}

impl MembersMetrics {
    /// Adds the metrics of all members to later snapshots of `metrics`, until the last clone of this value is dropped.
    pub fn report_to(&self, metrics: &Metrics) {
        let source: Arc<dyn MetricSource> = self.0.clone();
        metrics.add_source(Arc::downgrade(&source));
    }

    /// Returns the receiver of the metrics of the member `name`.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Arc<MemberMetrics> {
        let mut received = self.0.lock();
        received.receivers += 1;
        received.members.entry(name.to_owned()).or_insert_with(|| ProcessSeries::new(name));
        Arc::new(MemberMetrics { members: self.clone(), name: name.to_owned(), number: received.receivers })
    }
}

impl ReceivedMetrics {
    fn lock(&self) -> MutexGuard<'_, MemberTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSource for ReceivedMetrics {
    fn collect(&self, snapshot: &mut Snapshot) {
        self.lock().members.values().for_each(|series| series.collect(snapshot));
    }
}

impl MemberMetrics {
    /// Reads a line with metrics. Returns `false` if the line or one of its values is not valid.
    pub(crate) fn receive(&self, line: &str) -> bool {
        let Ok(MetricsLine { metrics }) = serde_json::from_str(line) else { return false };
        let mut received = self.members.0.lock();
        let Some(series) = received.members.get_mut(&self.name) else { return false };
        metrics.into_iter().take(SERIES_PER_LINE).all(|sent| match descriptor(&sent.name) {
            Some(metric) => sent.value.into_value(metric).is_some_and(|value| {
                let labels = sent.labels.iter().map(|label| Arc::from(shortened(label))).collect();
                series.set(self.number, metric, labels, value)
            }),
            None => false,
        })
    }

    /// Ends the member's process: its totals are kept, and the values of the next process are added to them.
    pub(crate) fn end_process(&self) {
        if let Some(series) = self.members.0.lock().members.get_mut(&self.name) {
            series.end_process(self.number);
        }
    }
}

impl Drop for MemberMetrics {
    fn drop(&mut self) {
        self.end_process();
    }
}

/// Returns whether the line contains metrics, even if it is not valid.
pub(crate) fn is_metrics(line: &str) -> bool {
    line.starts_with(LINE_START)
}

fn descriptor(name: &str) -> Option<&'static MetricDescriptor> {
    catalog::CATALOG.iter().find(|metric| metric.name == name).copied()
}

fn shortened(label: &str) -> &str {
    &label[..label.floor_char_boundary(LABEL_BYTES_MAX)]
}

impl SentValue {
    /// Converts the value to one of `metric`; `None` if the value is of another kind. Exemplars that are not valid are
    /// left out.
    fn into_value(self, metric: &MetricDescriptor) -> Option<MetricValue> {
        match (self, metric.kind) {
            (Self::Number(number), _) => Some(MetricValue::Number(number)),
            (Self::Histogram { counts, sum_s, exemplars }, MetricKind::Histogram(buckets)) => {
                let bucket_count = counts.len();
                let valid = exemplars.into_iter().take(bucket_count).filter(|it| it.bucket < bucket_count);
                let exemplar = |SentExemplar { bucket, trace, value_s, at_ns }: SentExemplar| {
                    Some((bucket, Exemplar { trace_id: TraceId::parse(&trace)?, value_s, at_ns }))
                };
                let exemplars = valid.filter_map(exemplar).collect();
                Some(MetricValue::Histogram(HistogramValue { buckets, counts, sum_s, exemplars }))
            }
            (Self::Histogram { .. }, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isomer_telemetry::AppIdentity;
    use isomer_telemetry::metrics::{
        Buckets, MethodClass, MetricScope, RouteMetrics, SERIES_PER_PROCESS_MAX, StatusClass, TextFormat,
    };

    use super::*;
    use crate::log::{Format, Log};
    use crate::member_metrics_sender::MemberMetricsSender;
    use crate::test_output::Output;

    fn app() -> AppIdentity {
        AppIdentity { tenant: "default".into(), app: "app".into() }
    }

    /// A process of the member `web`: its metrics, its log, and the sender.
    struct Process {
        metrics: Metrics,
        log: Log,
        out: Output,
        sender: MemberMetricsSender,
    }

    impl Process {
        fn start() -> Self {
            let (metrics, out) = (Metrics::default(), Output::default());
            let log = Log::start(out.clone(), Format::Json, false).unwrap();
            let sender = log.member_metrics(metrics.clone());
            Self { metrics, log, out, sender }
        }

        fn serve(&self, requests: u32) {
            let route = RouteMetrics::of_route(self.metrics.app(&app()), "web", "/");
            for _ in 0..requests {
                route.record(MethodClass::Get, StatusClass::Success, Duration::from_millis(1), TraceId::from_raw(7));
            }
        }

        /// Sends the changed values, and returns the lines.
        fn send(&mut self) -> Vec<String> {
            self.sender.send();
            self.log.flush();
            self.out.take().lines().map(str::to_owned).collect()
        }
    }

    fn requests(supervisor: &Metrics) -> Vec<(String, u64)> {
        let snapshot = supervisor.snapshot(MetricScope::All);
        let durations = snapshot.families().filter(|family| family.descriptor == &catalog::HTTP_SERVER_DURATION);
        let series = durations.flat_map(|family| &family.series);
        let count = |value: &MetricValue| match value {
            MetricValue::Histogram(value) => value.count(),
            MetricValue::Number(_) => panic!("not a histogram"),
        };
        series.map(|it| (it.process.as_deref().unwrap_or_default().to_owned(), count(&it.value))).collect()
    }

    #[test]
    fn counts_of_all_members_are_shown_and_continue_after_a_restart() {
        let (supervisor, members) = (Metrics::default(), MembersMetrics::default());
        members.report_to(&supervisor);
        let log = Log::start(std::io::sink(), Format::Json, false).unwrap();
        let member = |name| log.member(name, 4).with_metrics(members.receiver(name));
        let (web, cart) = (member("web"), member("cart"));
        let relay =
            |to: &crate::MemberLog, process: &mut Process| process.send().iter().for_each(|line| to.relay(line));
        let mut processes = (Process::start(), Process::start());
        processes.0.serve(3);
        processes.1.serve(1);
        relay(&web, &mut processes.0);
        relay(&cart, &mut processes.1);
        let found = || requests(&supervisor);
        let expected = |of_web| vec![("cart".to_owned(), 1), ("web".to_owned(), of_web)];
        assert_eq!(found(), expected(3));
        processes.0.serve(1);
        relay(&web, &mut processes.0);
        assert_eq!(found(), expected(4));
        web.end_process();
        assert_eq!(found(), expected(4), "the total is kept while no process runs");
        let mut next = Process::start();
        next.serve(2);
        relay(&web, &mut next);
        assert_eq!(found(), expected(6));
        let text = TextFormat::OpenMetrics.write(&supervisor.snapshot(MetricScope::All));
        let count = r#"http_server_request_duration_seconds_count{tenant="default",app="app",component="web",route="/",method="GET",status="2xx",process="web"} 6"#;
        assert!(text.contains(count), "{text}");
        assert!(text.contains("trace_id=\"00000000000000000000000000000007\""), "{text}");
        drop((web, cart));
        assert_eq!(found(), expected(6), "the totals of another arrangement are kept");
        drop(members);
        assert_eq!(found(), []);
    }

    #[test]
    fn only_changed_series_are_sent() {
        let mut process = Process::start();
        process.serve(1);
        let sent = |lines: &[String]| {
            let names = |line: &String| -> Vec<String> {
                serde_json::from_str::<MetricsLine>(line).unwrap().metrics.into_iter().map(|sent| sent.name).collect()
            };
            lines.iter().flat_map(names).collect::<Vec<_>>()
        };
        let first = process.send();
        assert!(first.iter().all(|line| is_metrics(line)), "{first:?}");
        assert!(sent(&first).len() > 1, "{first:?}");
        assert_eq!(process.send(), [""; 0]);
        process.serve(1);
        assert_eq!(sent(&process.send()), [catalog::HTTP_SERVER_DURATION.name]);
    }

    #[test]
    fn a_hostile_member_harms_nothing() {
        let (supervisor, members, out) = (Metrics::default(), MembersMetrics::default(), Output::default());
        members.report_to(&supervisor);
        let log = Log::start(out.clone(), Format::Text { colour: false }, false).unwrap();
        let member = log.member("web", 3).with_metrics(members.receiver("web"));
        let lines = [
            r#"{"metrics":["#.to_owned(),
            r#"{"metrics":[{"name":"unknown","labels":[],"value":1}]}"#.to_owned(),
            r#"{"metrics":[{"name":"isomer.apps.loads","labels":["more"],"value":1}]}"#.to_owned(),
            r#"{"metrics":[{"name":"isomer.apps.loads","labels":[],"value":-1}]}"#.to_owned(),
            r#"{"metrics":[{"name":"isomer.apps.loads","labels":[],"value":{"counts":[1],"sum_s":1,"exemplars":[]}}]}"#
                .to_owned(),
        ];
        lines.iter().for_each(|line| member.relay(line));
        log.flush();
        assert_eq!(out.take().matches("sent invalid metrics").count(), lines.len());
        let long = "é".repeat(LABEL_BYTES_MAX);
        let labels = serde_json::json!(["default", "app", "web", long]);
        let line = serde_json::json!([{ "name": "http.server.active_requests", "labels": labels, "value": 2 }]);
        member.relay(&format!("{{\"metrics\":{line}}}"));
        let snapshot = supervisor.snapshot(MetricScope::All);
        let active = snapshot.families().find(|it| it.descriptor == &catalog::HTTP_SERVER_ACTIVE).unwrap();
        assert_eq!(active.series[0].labels[3].len(), LABEL_BYTES_MAX);
    }

    #[test]
    fn huge_numbers_are_bounded_and_dropped_series_are_counted() {
        let (supervisor, members) = (Metrics::default(), MembersMetrics::default());
        members.report_to(&supervisor);
        let line = |name: &str, labels: &[&str], value: serde_json::Value| {
            let series = serde_json::json!([{ "name": name, "labels": labels, "value": value }]);
            format!("{{\"metrics\":{series}}}")
        };
        let number = |name: &str| {
            let snapshot = supervisor.snapshot(MetricScope::All);
            let family = snapshot.families().find(|family| family.descriptor.name == name).unwrap();
            family.series[0].value.number().unwrap()
        };
        let receivers = [members.receiver("web"), members.receiver("web")];
        for receiver in &receivers {
            assert!(receiver.receive(&line("isomer.apps.loads", &[], 1e308.into())));
        }
        assert!(number("isomer.apps.loads") > 1e100 && number("isomer.apps.loads").is_finite());
        let counts = vec![u64::MAX; Buckets::REQUEST.bounds() + 1];
        let durations = serde_json::json!({ "counts": counts, "sum_s": 1, "exemplars": [] });
        let labels = ["default", "app", "web", "/", "GET", "2xx"];
        assert!(!receivers[0].receive(&line("http.server.request.duration", &labels, durations)));
        assert_eq!(requests(&supervisor), []);
        assert!(number("isomer.telemetry.dropped") < 1.0);
        for route in 0..SERIES_PER_PROCESS_MAX {
            let labels = ["default", "app", "web", &route.to_string()];
            receivers[0].receive(&line("http.server.active_requests", &labels, 1.into()));
        }
        // There is also the series of the loads.
        assert!((number("isomer.telemetry.dropped") - 1.0).abs() < 1e-9);
    }
}
