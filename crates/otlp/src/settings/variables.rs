//! The standard variables of OpenTelemetry.

use std::time::Duration;

use super::{SettingError, list};
use crate::Signal;

/// All variables that are read, ordered by name, each with its meaning.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        "OTEL_BLRP_EXPORT_TIMEOUT",
        "the time after which log records are dropped if the collector does not accept them, in milliseconds [default: 30000]",
    ),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "the maximum number of log records in a request [default: 512]"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "the maximum number of log records that wait [default: 2048]"),
    (
        "OTEL_BLRP_SCHEDULE_DELAY",
        "the maximum time for which log records wait until they are sent, in milliseconds [default: 1000]",
    ),
    (
        "OTEL_BSP_EXPORT_TIMEOUT",
        "the time after which spans are dropped if the collector does not accept them, in milliseconds [default: 30000]",
    ),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "the maximum number of spans in a request [default: 512]"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "the maximum number of spans that wait [default: 2048]"),
    (
        "OTEL_BSP_SCHEDULE_DELAY",
        "the maximum time for which spans wait until they are sent, in milliseconds [default: 5000]",
    ),
    (
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "a PEM file with the certificate authorities that sign the collector's certificate, instead of the public ones",
    ),
    (
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "a PEM file with the certificate by which the collector authenticates Isomer",
    ),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "a PEM file with the private key of the client certificate"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "`gzip` or `none` [default: `none`]"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "the base URL of a collector, to which traces, logs and metrics are sent: `http://localhost:4318`",
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "header fields of requests to the collector: `NAME=VALUE,NAME=VALUE`, percent-encoded. The values are never printed",
    ),
    ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CERTIFICATE`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "like `OTEL_EXPORTER_OTLP_CLIENT_KEY`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "like `OTEL_EXPORTER_OTLP_COMPRESSION`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "the URL of the collector for logs; no path is added"),
    ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "like `OTEL_EXPORTER_OTLP_HEADERS`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "like `OTEL_EXPORTER_OTLP_PROTOCOL`, for logs"),
    ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "like `OTEL_EXPORTER_OTLP_TIMEOUT`, for logs"),
    ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CERTIFICATE`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "like `OTEL_EXPORTER_OTLP_CLIENT_KEY`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "like `OTEL_EXPORTER_OTLP_COMPRESSION`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "the URL of the collector for metrics; no path is added"),
    ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "like `OTEL_EXPORTER_OTLP_HEADERS`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "like `OTEL_EXPORTER_OTLP_PROTOCOL`, for metrics"),
    ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "like `OTEL_EXPORTER_OTLP_TIMEOUT`, for metrics"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "must be `http/protobuf`, the only protocol that is supported"),
    (
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "the maximum duration of a request to the collector, in milliseconds [default: 10000]",
    ),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CERTIFICATE`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "like `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "like `OTEL_EXPORTER_OTLP_CLIENT_KEY`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "like `OTEL_EXPORTER_OTLP_COMPRESSION`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "the URL of the collector for traces; no path is added"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "like `OTEL_EXPORTER_OTLP_HEADERS`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "like `OTEL_EXPORTER_OTLP_PROTOCOL`, for traces"),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "like `OTEL_EXPORTER_OTLP_TIMEOUT`, for traces"),
    ("OTEL_LOGS_EXPORTER", "`otlp` or `none`: whether logs are exported [default: `otlp` if a URL is set]"),
    ("OTEL_METRICS_EXPORTER", "`otlp` or `none`: whether metrics are exported [default: `otlp` if a URL is set]"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "the time between two exports of metrics, in milliseconds [default: 60000]"),
    (
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "the time after which an export of metrics is given up, in milliseconds [default: 30000]",
    ),
    ("OTEL_RESOURCE_ATTRIBUTES", "attributes of all exported records: `KEY=VALUE,KEY=VALUE`, percent-encoded"),
    ("OTEL_SDK_DISABLED", "`true` disables the export"),
    ("OTEL_SERVICE_NAME", "the name of the service, instead of the app's name. Not used for apps on a node"),
    ("OTEL_TRACES_EXPORTER", "`otlp` or `none`: whether traces are exported [default: `otlp` if a URL is set]"),
];

/// Reads variables, and collects mistakes. An empty value means the same as no value.
pub(super) struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) errors: Vec<SettingError>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { variable, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Returns the value of the variable `name`.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns whether the variable `name` has the value `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Returns the name of the variable for `setting` and one signal, such as `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`.
    pub(super) fn name(&self, signal: Signal, setting: &str) -> &'static str {
        listed(&format!("OTEL_EXPORTER_OTLP_{}_{setting}", signal.in_variables()))
    }

    /// Returns the value of the variable for `setting` and one signal.
    pub(super) fn of_signal(&self, signal: Signal, setting: &str) -> Option<String> {
        self.text(self.name(signal, setting))
    }

    /// Returns the name and the value of the variable for `setting` and one signal. If that variable is not set,
    /// returns the name and the value of the variable for `setting` and all signals.
    pub(super) fn named(&self, signal: Signal, setting: &str) -> Option<(&'static str, String)> {
        let for_all = listed(&format!("OTEL_EXPORTER_OTLP_{setting}"));
        let names = [self.name(signal, setting), for_all];
        names.into_iter().find_map(|name| Some((name, self.text(name)?)))
    }

    /// Parses `text`, the value of the variable `name`, as a number of milliseconds of at most `max`.
    pub(super) fn milliseconds(&mut self, name: &str, text: &str, max: Duration) -> Option<Duration> {
        match text.parse().map(Duration::from_millis) {
            Ok(duration) if duration <= max => Some(duration),
            Ok(_) => {
                self.error(name, format!("it is more than {} milliseconds", max.as_millis()), None);
                None
            }
            Err(_) => {
                self.error(name, "it is not a whole number of milliseconds", None);
                None
            }
        }
    }

    /// Returns the value of the variable `name`, a number from 1 to `max`.
    pub(super) fn number(&mut self, name: &str, max: usize) -> Option<usize> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        if number.is_none() {
            self.error(name, format!("it is not a number from 1 to {max}"), None);
        }
        number
    }

    /// Returns the resource attributes that the user has set.
    pub(super) fn attributes(&mut self) -> Vec<(String, String)> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(text) = self.text(name) else { return Vec::new() };
        list::parse(&text).map_err(|problem| self.error(name, problem, None)).unwrap_or_default()
    }

    /// Records a mistake, unless the same mistake was recorded for another signal.
    pub(super) fn error(&mut self, name: &str, problem: impl ToString, hint: Option<&str>) {
        let error = SettingError::new(name, problem, hint);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Returns `name` from [`VARIABLES`], which must contain it.
fn listed(name: &str) -> &'static str {
    let listed = VARIABLES.iter().find(|(listed, _)| *listed == name).map(|(listed, _)| *listed);
    listed.expect("all variables are listed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_listed_by_name() {
        assert!(VARIABLES.is_sorted());
        let variables = Variables::new(&|_| None);
        for signal in Signal::ALL {
            for setting in [
                "ENDPOINT",
                "HEADERS",
                "TIMEOUT",
                "COMPRESSION",
                "PROTOCOL",
                "CERTIFICATE",
                "CLIENT_CERTIFICATE",
                "CLIENT_KEY",
            ] {
                assert_eq!(variables.named(signal, setting), None);
            }
        }
    }
}
