//! Reads the settings of one signal.

use std::path::PathBuf;
use std::time::Duration;

use super::variables::Variables;
use super::{Endpoint, FileSettings, Headers, SignalSettings, TlsFiles};
use crate::Signal;

/// The URL of a collector on this machine.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// The maximum duration of one request to the collector, if nothing is set.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The largest value that a setting for a duration may have.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// The minimum time between two exports of metrics.
const METRICS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The largest value that a setting for a number of records may have.
const RECORDS_MAX: usize = 65_536;

/// The default values of a signal, which OpenTelemetry's specification defines.
struct Defaults {
    delay: Duration,
    delay_min: Duration,
    queue_records: usize,
    batch_records: usize,
    retry_time: Duration,
    /// The names of the variables that override the default values.
    variables: BatchVariables,
}

struct BatchVariables {
    delay: &'static str,
    queue_records: Option<&'static str>,
    batch_records: Option<&'static str>,
    retry_time: &'static str,
}

impl Defaults {
    fn of(signal: Signal) -> Self {
        let (delay, variables) = match signal {
            Signal::Traces => (
                Duration::from_secs(5),
                BatchVariables {
                    delay: "OTEL_BSP_SCHEDULE_DELAY",
                    queue_records: Some("OTEL_BSP_MAX_QUEUE_SIZE"),
                    batch_records: Some("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
                    retry_time: "OTEL_BSP_EXPORT_TIMEOUT",
                },
            ),
            Signal::Logs => (
                Duration::from_secs(1),
                BatchVariables {
                    delay: "OTEL_BLRP_SCHEDULE_DELAY",
                    queue_records: Some("OTEL_BLRP_MAX_QUEUE_SIZE"),
                    batch_records: Some("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"),
                    retry_time: "OTEL_BLRP_EXPORT_TIMEOUT",
                },
            ),
            Signal::Metrics => (
                Duration::from_secs(60),
                BatchVariables {
                    delay: "OTEL_METRIC_EXPORT_INTERVAL",
                    queue_records: None,
                    batch_records: None,
                    retry_time: "OTEL_METRIC_EXPORT_TIMEOUT",
                },
            ),
        };
        let delay_min = if signal == Signal::Metrics { METRICS_INTERVAL_MIN } else { Duration::ZERO };
        Self {
            delay,
            delay_min,
            queue_records: 2048,
            batch_records: 512,
            retry_time: Duration::from_secs(30),
            variables,
        }
    }
}

/// Returns the settings of `signal`; `None` if the signal is not exported or has mistakes, which are recorded in
/// `variables`.
pub(super) fn read(variables: &mut Variables<'_>, file: &FileSettings, signal: Signal) -> Option<SignalSettings> {
    let own = variables.of_signal(signal, "ENDPOINT");
    let base = variables.text("OTEL_EXPORTER_OTLP_ENDPOINT");
    let in_file = file.endpoint.as_ref().filter(|_| file.signals.as_ref().is_none_or(|all| all.contains(&signal)));
    let is_addressed = own.is_some() || base.is_some() || in_file.is_some();
    if !is_selected(variables, signal, is_addressed) {
        return None;
    }
    check_protocol(variables, signal);
    let is_of_file = own.is_none() && base.is_none() && in_file.is_some();
    let (name, endpoint) = match (own, base, in_file) {
        (Some(url), _, _) => (variables.name(signal, "ENDPOINT"), Endpoint::parse(&url)),
        (None, Some(url), _) => ("OTEL_EXPORTER_OTLP_ENDPOINT", Endpoint::parse_base(&url, signal)),
        (None, None, Some(url)) => ("telemetry.otlp.endpoint", Endpoint::parse_base(url, signal)),
        (None, None, None) => ("OTEL_EXPORTER_OTLP_ENDPOINT", Endpoint::parse_base(DEFAULT_ENDPOINT, signal)),
    };
    let endpoint = endpoint.map_err(|problem| variables.error(name, problem, None)).ok();
    let headers = match variables.named(signal, "HEADERS") {
        Some((name, text)) => {
            Headers::parse(&text).map_err(|problem| variables.error(name, problem, None)).unwrap_or_default()
        }
        None if is_of_file => file.headers.clone(),
        None => Headers::default(),
    };
    let timeout = match variables.named(signal, "TIMEOUT") {
        Some((name, text)) => variables.milliseconds(name, &text, DURATION_MAX),
        None => None,
    };
    let is_compressed = match variables.named(signal, "COMPRESSION") {
        None => false,
        Some((name, text)) => match text.as_str() {
            "gzip" => true,
            "none" => false,
            _ => {
                variables.error(name, "it is neither `gzip` nor `none`", None);
                false
            }
        },
    };
    let mut tls = tls(variables, signal);
    if is_of_file && tls.authority.is_none() {
        tls.authority.clone_from(&file.authority);
    }
    let defaults = Defaults::of(signal);
    let mut duration = |name: &'static str| {
        let text = variables.text(name)?;
        variables.milliseconds(name, &text, DURATION_MAX)
    };
    let delay = duration(defaults.variables.delay).unwrap_or(defaults.delay).max(defaults.delay_min);
    let retry_time = limited(duration(defaults.variables.retry_time).unwrap_or(defaults.retry_time));
    let mut number = |name: Option<&'static str>| variables.number(name?, RECORDS_MAX);
    let queue_records_max = number(defaults.variables.queue_records).unwrap_or(defaults.queue_records);
    let batch_records_max = number(defaults.variables.batch_records).unwrap_or(defaults.batch_records);
    Some(SignalSettings {
        signal,
        endpoint: endpoint?,
        headers,
        timeout: limited(timeout.unwrap_or(TIMEOUT_DEFAULT)),
        is_compressed,
        tls,
        queue_records_max,
        batch_records_max: batch_records_max.min(queue_records_max),
        delay,
        retry_time,
    })
}

/// Returns the timeout to use for a configured `duration`. 0 stands for no limit, and is replaced by the longest
/// supported timeout.
fn limited(duration: Duration) -> Duration {
    if duration.is_zero() { DURATION_MAX } else { duration }
}

/// Returns whether the variable `OTEL_…_EXPORTER` of `signal` contains `otlp`. If the variable is not set, returns
/// `is_addressed`: whether a URL is set for the signal.
fn is_selected(variables: &mut Variables<'_>, signal: Signal, is_addressed: bool) -> bool {
    let name = match signal {
        Signal::Traces => "OTEL_TRACES_EXPORTER",
        Signal::Logs => "OTEL_LOGS_EXPORTER",
        Signal::Metrics => "OTEL_METRICS_EXPORTER",
    };
    let Some(exporters) = variables.text(name) else { return is_addressed };
    let mut exporters = exporters.split(',').map(str::trim);
    let is_selected = exporters.clone().any(|exporter| exporter == "otlp");
    // `prometheus` needs no warning: metrics are always available in Prometheus's format.
    let is_known = exporters.all(|exporter| exporter == "none" || exporter == "otlp" || exporter == "prometheus");
    if is_addressed && !is_selected && !is_known {
        variables.warnings.push(format!(
            "{name} does not contain `otlp`, the only exporter that is available: {signal} are not exported"
        ));
    }
    is_selected
}

fn check_protocol(variables: &mut Variables<'_>, signal: Signal) {
    let Some((name, protocol)) = variables.named(signal, "PROTOCOL") else { return };
    let hint = "set it to `http/protobuf`, and use the collector's port for HTTP, usually 4318";
    match protocol.as_str() {
        "http/protobuf" => {}
        "grpc" => variables.error(name, "`grpc` is not supported", Some(hint)),
        _ => variables.error(name, "the protocol is not supported", Some(hint)),
    }
}

fn tls(variables: &mut Variables<'_>, signal: Signal) -> TlsFiles {
    let authority = variables.named(signal, "CERTIFICATE").map(|(_, path)| PathBuf::from(path));
    let certificate = variables.named(signal, "CLIENT_CERTIFICATE");
    let key = variables.named(signal, "CLIENT_KEY");
    let client = match (certificate, key) {
        (Some((_, certificate)), Some((_, key))) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (Some((name, _)), None) | (None, Some((name, _))) => {
            variables.error(name, "a client certificate and its key must be set together", None);
            None
        }
    };
    TlsFiles { authority, client }
}
