//! The resources that the process uses, as the system reports them in `/proc`.

use std::fs;
use std::time::{Duration, SystemTime};

use isomer_telemetry::metrics::{MetricDescriptor, MetricSource, MetricValue, Snapshot, catalog};

use super::memory::resident_bytes;

/// The number of clock ticks per second in the times of `/proc` (`USER_HZ`). Linux uses this number on all platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the resources that this process uses (memory, processor time, file descriptors, threads) to snapshots of the
/// metrics.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// The start of the process as the time since the Unix epoch; `None` if the system does not report it.
    started: Option<Duration>,
}

/// The fields of `/proc/self/stat` that are reported.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ProcessStat {
    cpu_s: f64,
    threads: f64,
    /// The start of the process in seconds since the start of the system.
    started_s: f64,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self { started: process_start() }
    }
}

/// Returns the start of the process as the time since the Unix epoch; `None` if the system does not report it.
pub(crate) fn process_start() -> Option<Duration> {
    let stat = read("/proc/self/stat").and_then(|text| ProcessStat::parse(&text));
    let up_s = read("/proc/uptime").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let age = stat.zip(up_s).and_then(|(stat, up_s)| Duration::try_from_secs_f64(up_s - stat.started_s).ok())?;
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(age)
}

impl MetricSource for ProcessMetrics {
    fn collect(&self, snapshot: &mut Snapshot) {
        let mut push = |metric: &'static MetricDescriptor, value: Option<f64>| {
            if let Some(value) = value {
                snapshot.push(metric, vec![], MetricValue::Number(value));
            }
        };
        let stat = read("/proc/self/stat").and_then(|text| ProcessStat::parse(&text));
        let descriptors = fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count() as u64);
        let integer = |number: Option<u64>| number.and_then(|number| MetricValue::integer(number).number());
        push(&catalog::PROCESS_MEMORY, integer(resident_bytes()));
        push(&catalog::PROCESS_DESCRIPTORS, integer(descriptors));
        push(&catalog::PROCESS_CPU, stat.map(|stat| stat.cpu_s));
        push(&catalog::PROCESS_THREADS, stat.map(|stat| stat.threads));
        push(&catalog::PROCESS_START, self.started.map(|started| started.as_secs_f64()));
    }
}

impl ProcessStat {
    /// Parses the content of `/proc/PID/stat` (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name of the program in parentheses. It may contain spaces and parentheses, so the
        // next field begins after the last `)`.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        // `fields` begins with the field that has number 3 in proc(5).
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_s: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_s: field(22)? / TICKS_PER_SECOND,
        })
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isomer_telemetry::metrics::{MetricScope, Metrics};

    use super::*;

    #[test]
    fn the_fields_after_the_name_are_read() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 150 5 6 20 0 12 0 4200 8 9";
        let stat = ProcessStat::parse(text);
        assert_eq!(stat, Some(ProcessStat { cpu_s: 4.0, threads: 12.0, started_s: 42.0 }));
        assert_eq!(ProcessStat::parse("7 (a"), None);
    }

    #[test]
    fn this_process_has_all_metrics() {
        let metrics = Metrics::default();
        let process: Arc<dyn MetricSource> = Arc::new(ProcessMetrics::default());
        metrics.add_source(Arc::downgrade(&process));
        let snapshot = metrics.snapshot(MetricScope::All);
        let value = |metric: &MetricDescriptor| {
            let family = snapshot.families().find(|family| family.descriptor == metric)?;
            family.series.first()?.value.number()
        };
        assert!(value(&catalog::PROCESS_MEMORY).is_some_and(|bytes| bytes > 1e6));
        assert!(value(&catalog::PROCESS_DESCRIPTORS).is_some_and(|count| count >= 3.0));
        assert!(value(&catalog::PROCESS_START).is_some_and(|time| time > 1.7e9));
        assert!(value(&catalog::PROCESS_CPU).is_some() && value(&catalog::PROCESS_THREADS).is_some());
    }
}
