//! Which signals are exported, and to which collectors. The settings come from the standard variables (`OTEL_*`) and
//! from the node file.
//!
//! Variables take precedence over the node file. If a variable sets the URL of a signal, no header fields of the node
//! file are sent with the signal, because they may contain a secret for another server.

mod endpoint;
mod headers;
mod list;
mod signal;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

pub use endpoint::{Endpoint, InvalidEndpoint};
pub use headers::{Headers, InvalidHeaders};
pub use variables::VARIABLES;

use crate::Signal;
use variables::Variables;

/// The settings of a collector in a node file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSettings {
    /// The base URL of the collector.
    pub endpoint: Option<String>,
    /// The header fields that are sent to the collector.
    pub headers: Headers,
    /// The signals that are exported; `None` means all.
    pub signals: Option<Vec<Signal>>,
    /// A PEM file with the certificate authorities that sign the collector's certificate.
    pub authority: Option<PathBuf>,
}

/// The settings of the export.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OtlpSettings {
    /// The settings of each exported signal.
    pub signals: Vec<SignalSettings>,
    /// Attributes of every resource, which the user has set.
    pub attributes: Vec<(String, String)>,
    /// The name of the service, instead of the app's name.
    pub service_name: Option<String>,
    /// Settings that have no effect, each with the reason.
    pub warnings: Vec<String>,
}

/// The settings of the export of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSettings {
    /// The signal.
    pub signal: Signal,
    /// The URL to which the signal is sent.
    pub endpoint: Endpoint,
    /// Header fields of each request.
    pub headers: Headers,
    /// The maximum duration of one request to the collector.
    pub timeout: Duration,
    /// Whether bodies of requests are compressed with gzip.
    pub is_compressed: bool,
    /// The files for TLS.
    pub tls: TlsFiles,
    /// The maximum number of records that wait to be sent, or are being sent.
    pub queue_records_max: usize,
    /// The maximum number of records in a request.
    pub batch_records_max: usize,
    /// The maximum time for which a record waits until its batch is sent. For metrics, the interval between two
    /// exports.
    pub delay: Duration,
    /// The time after which a batch is dropped if the collector does not accept it.
    pub retry_time: Duration,
}

/// Files for TLS connections to a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// A PEM file with certificate authorities. If it is set, the public authorities are not trusted.
    pub authority: Option<PathBuf>,
    /// PEM files with the certificate and the private key of this client.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A setting that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct SettingError {
    /// The name of the variable, or the key of the node file.
    pub variable: String,
    /// What is wrong. Contains no value, because values may be secrets.
    pub problem: String,
    /// How the user can correct the setting; `None` if there is no hint.
    pub hint: Option<String>,
}

impl SettingError {
    fn new(variable: &str, problem: impl ToString, hint: Option<&str>) -> Self {
        Self { variable: variable.to_owned(), problem: problem.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl OtlpSettings {
    /// Reads the settings. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// If a setting is not valid. Contains an error for each invalid setting. Variables of signals that are not
    /// exported are not checked.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>, file: &FileSettings) -> Result<Self, Vec<SettingError>> {
        let mut variables = Variables::new(variable);
        if variables.is_true("OTEL_SDK_DISABLED") {
            return Ok(Self::default());
        }
        let signals: Vec<SignalSettings> =
            Signal::ALL.into_iter().filter_map(|signal| signal::read(&mut variables, file, signal)).collect();
        let mut settings = Self { signals, ..Self::default() };
        if !settings.signals.is_empty() || !variables.errors.is_empty() {
            settings.attributes = variables.attributes();
            settings.service_name = variables.text("OTEL_SERVICE_NAME");
        }
        settings.warnings = variables.warnings;
        if variables.errors.is_empty() { Ok(settings) } else { Err(variables.errors) }
    }

    /// Returns the settings of `signal`, if it is exported.
    pub fn signal(&self, signal: Signal) -> Option<&SignalSettings> {
        self.signals.iter().find(|settings| settings.signal == signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], file: &FileSettings) -> Result<OtlpSettings, Vec<SettingError>> {
        let value = |name: &str| {
            assert!(VARIABLES.iter().any(|(listed, _)| *listed == name), "{name} is not listed");
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        OtlpSettings::read(&value, file)
    }

    fn urls(variables: &[(&str, &str)], file: &FileSettings) -> Vec<String> {
        read(variables, file).unwrap().signals.iter().map(|signal| signal.endpoint.to_string()).collect()
    }

    fn from_file() -> FileSettings {
        FileSettings {
            endpoint: Some("https://file.example:4318".to_owned()),
            headers: Headers::parse("authorization=s3cret").unwrap(),
            ..FileSettings::default()
        }
    }

    #[test]
    fn nothing_is_exported_by_default() {
        assert_eq!(read(&[], &FileSettings::default()), Ok(OtlpSettings::default()));
        // These variables do not start an export, because they are often set for other programs.
        let others = [("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(read(&others, &FileSettings::default()), Ok(OtlpSettings::default()));
    }

    #[test]
    fn an_endpoint_or_an_exporter_enables_signals() {
        let none = FileSettings::default();
        let [traces, logs, metrics] = Signal::ALL.map(|signal| format!("http://c:4318/{}", signal.path()));
        assert_eq!(urls(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], &none), [&*traces, &logs, &metrics]);
        let one = [("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c:4318/in")];
        assert_eq!(urls(&one, &none), ["http://c:4318/in"]);
        assert_eq!(urls(&[("OTEL_TRACES_EXPORTER", "otlp")], &none), ["http://localhost:4318/v1/traces"]);
        let without = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_LOGS_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ];
        assert_eq!(urls(&without, &none), [&*traces]);
        let disabled = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "TRUE")];
        assert!(urls(&disabled, &from_file()).is_empty());
    }

    #[test]
    fn another_exporter_is_reported() {
        let settings = read(
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_TRACES_EXPORTER", "zipkin")],
            &FileSettings::default(),
        );
        let settings = settings.unwrap();
        assert!(settings.signal(Signal::Traces).is_none() && settings.signal(Signal::Logs).is_some());
        assert_eq!(
            settings.warnings,
            [
                "OTEL_TRACES_EXPORTER does not contain `otlp`, the only exporter that is available: traces are not exported"
            ]
        );
    }

    #[test]
    fn variables_take_precedence_and_do_not_receive_the_headers_of_the_file() {
        let file = FileSettings { signals: Some(vec![Signal::Traces]), ..from_file() };
        assert_eq!(urls(&[], &file), ["https://file.example:4318/v1/traces"]);
        let settings = read(&[], &file).unwrap();
        assert!(!settings.signals[0].headers.is_empty());
        let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], &file).unwrap();
        assert_eq!(settings.signals[0].endpoint.to_string(), "http://c:4318/v1/traces");
        assert!(settings.signals.iter().all(|signal| signal.headers.is_empty()));
        let replaced = [("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=1"), ("OTEL_EXPORTER_OTLP_HEADERS", "y=1")];
        let settings = read(&replaced, &from_file()).unwrap();
        let names = |signal| format!("{:?}", settings.signal(signal).unwrap().headers);
        assert_eq!((names(Signal::Traces), names(Signal::Logs)), (r#"{"x"}"#.into(), r#"{"y"}"#.into()));
    }

    #[test]
    fn all_settings_of_a_signal_are_read() {
        let settings = read(
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
                ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "c.pem"),
                ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "k.pem"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50"),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
                ("OTEL_BSP_EXPORT_TIMEOUT", ""),
                ("OTEL_SERVICE_NAME", "shop"),
                ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%20bed, a=b"),
            ],
            &FileSettings::default(),
        );
        let settings = settings.unwrap();
        let traces = settings.signal(Signal::Traces).unwrap();
        assert_eq!((traces.timeout, traces.is_compressed), (Duration::from_secs(2), true));
        let tls = TlsFiles { authority: Some("ca.pem".into()), client: Some(("c.pem".into(), "k.pem".into())) };
        assert_eq!(traces.tls, tls);
        assert_eq!((traces.queue_records_max, traces.batch_records_max), (100, 50));
        assert_eq!((traces.delay, traces.retry_time), (Duration::from_millis(10), Duration::from_secs(30)));
        assert_eq!(settings.service_name.as_deref(), Some("shop"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(settings.attributes, [pair("deployment.environment.name", "test bed"), pair("a", "b")]);
    }

    #[test]
    fn every_mistake_names_its_variable_and_no_value() {
        let errors = read(
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@c"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "s3cret"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "s3cret"),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
                ("OTEL_RESOURCE_ATTRIBUTES", "s3cret"),
                ("OTEL_METRICS_EXPORTER", "none"),
            ],
            &FileSettings::default(),
        )
        .unwrap_err();
        let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: `grpc` is not supported",
                "OTEL_EXPORTER_OTLP_ENDPOINT: the URL must not contain a user name or a password: send them in a header",
                "OTEL_EXPORTER_OTLP_HEADERS: entry 1 has no `=`: write `NAME=VALUE,NAME=VALUE`",
                "OTEL_EXPORTER_OTLP_TIMEOUT: it is not a whole number of milliseconds",
                "OTEL_EXPORTER_OTLP_COMPRESSION: it is neither `gzip` nor `none`",
                "OTEL_EXPORTER_OTLP_CLIENT_KEY: a client certificate and its key must be set together",
                "OTEL_BSP_MAX_QUEUE_SIZE: it is not a number from 1 to 65536",
                "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: the protocol is not supported",
                "OTEL_RESOURCE_ATTRIBUTES: entry 1 has no `=`: write `KEY=VALUE,KEY=VALUE`",
            ]
        );
        assert!(errors[0].hint.as_ref().is_some_and(|hint| hint.contains("4318")));
        assert!(!format!("{errors:?}").contains("s3cret"));
    }

    #[test]
    fn a_batch_is_not_larger_than_the_queue() {
        let limits = |variables: &[(&str, &str)]| {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
            let settings = read(&[&[endpoint], variables].concat(), &FileSettings::default()).unwrap();
            let traces = settings.signal(Signal::Traces).unwrap();
            (traces.queue_records_max, traces.batch_records_max)
        };
        assert_eq!(limits(&[]), (2048, 512));
        assert_eq!(limits(&[("OTEL_BSP_MAX_QUEUE_SIZE", "7")]), (7, 7));
    }
}
