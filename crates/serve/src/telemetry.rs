//! The export of telemetry to a collector: its settings, from the environment and from a node file, and the exporters of
//! a process.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use isomer_console::{CliError, Console};
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_manifest::{App, OtlpExport, SecretSource};
use isomer_observe::Log;
use isomer_otlp::settings::{FileSettings, Headers, SettingError};
use isomer_otlp::{Otlp, OtlpSettings, ServedApps, ServiceIdentity, Signal, TlsError};
use isomer_telemetry::TraceSink;
use isomer_telemetry::metrics::{MetricSource, Metrics};

/// The maximum size of a file with the value of a header field, in bytes.
const HEADER_FILE_BYTES_MAX: u64 = 16 << 10;

/// The key of a node file whose value the exporter checks.
const ENDPOINT_KEY: &str = "telemetry.otlp.endpoint";

/// A node file that names a collector.
pub struct CollectorInFile<'a> {
    /// The table `[telemetry.otlp]` of the node file.
    pub written: &'a OtlpExport,
    /// The folder of the node file, against which relative paths are resolved.
    pub dir: &'a Path,
    /// The text of the node file, for error messages.
    pub source: &'a SourceFile,
}

/// Starts the exporters, if the environment or the node file `file` names a collector. Must be called in a Tokio
/// runtime.
///
/// # Errors
/// If a setting is not valid, or a file that a setting names cannot be used.
pub fn start_export(file: Option<&CollectorInFile<'_>>, console: &Console) -> Result<Option<Arc<Otlp>>, CliError> {
    let in_file = file.map(settings_of).transpose()?.unwrap_or_default();
    let settings = OtlpSettings::read(&|name| std::env::var(name).ok(), &in_file);
    let settings = settings.map_err(|errors| invalid(errors, file))?;
    for warning in &settings.warnings {
        console.message(&console.renderer().diagnostic(&Diagnostic::warning(warning)));
    }
    if settings.signals.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Otlp::start(&settings).map_err(unusable)?)))
}

/// Reads the table `[telemetry.otlp]` of a node file, and the files and environment variables that the table names.
fn settings_of(file: &CollectorInFile<'_>) -> Result<FileSettings, CliError> {
    let OtlpExport { endpoint, signals, headers, authority } = file.written;
    let mut values = Headers::default();
    for (name, source) in headers {
        let added = value_of(source, file.dir)
            .and_then(|value| values.add(&name.value, &value).map_err(|problem| problem.to_string()));
        added.map_err(|problem| {
            let finding = Diagnostic::error(format!("header field `{}`: {problem}", name.value)).code("bad-header");
            CliError::findings(vec![finding.at(name.span, "")], file.source)
        })?;
    }
    let signals =
        signals.as_ref().map(|names| names.iter().filter_map(|name| Signal::from_name(&name.value)).collect());
    Ok(FileSettings {
        endpoint: Some(endpoint.value.clone()),
        headers: values,
        signals,
        authority: authority.as_ref().map(|path| file.dir.join(&path.value)),
    })
}

/// Returns the value of a header field. Errors do not contain it.
fn value_of(source: &SecretSource, dir: &Path) -> Result<String, String> {
    match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|_| format!("the variable `{name}` is not set")),
        SecretSource::File(path) => {
            let unreadable = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
            let mut value = String::new();
            let opened = std::fs::File::open(dir.join(path)).map_err(unreadable)?;
            opened.take(HEADER_FILE_BYTES_MAX + 1).read_to_string(&mut value).map_err(unreadable)?;
            if value.len() as u64 > HEADER_FILE_BYTES_MAX {
                return Err(format!("`{}` has more than {HEADER_FILE_BYTES_MAX} bytes", path.display()));
            }
            Ok(value.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

fn invalid(errors: Vec<SettingError>, file: Option<&CollectorInFile<'_>>) -> CliError {
    let finding = |SettingError { variable, problem, hint }: SettingError| {
        let finding = Diagnostic::error(format!("`{variable}`: {problem}")).code("bad-telemetry-setting").hint_if(hint);
        match file.filter(|_| variable == ENDPOINT_KEY) {
            Some(file) => finding.at(file.written.endpoint.span, "").in_source(file.source),
            None => finding,
        }
    };
    CliError::Findings(errors.into_iter().map(finding).collect())
}

fn unusable(error: TlsError) -> CliError {
    let hint = "correct `OTEL_EXPORTER_OTLP_CERTIFICATE` and the variables for the client certificate, or `authority` in [telemetry.otlp] of the node file";
    CliError::hinted(error, [hint])
}

/// The export of the telemetry of the only app of a process.
#[derive(Clone)]
pub struct AppExport {
    otlp: Arc<Otlp>,
    app: String,
    version: String,
}

impl AppExport {
    /// Starts the export, if the environment names a collector. From now on, `log` also passes the app's events to it.
    pub(crate) fn start(app: &App, log: &Log, console: &Console) -> Result<Option<Self>, CliError> {
        let Some(otlp) = start_export(None, console)? else { return Ok(None) };
        let export = Self { otlp, app: app.name.to_string(), version: app.version.to_string() };
        if let Some(logs) = export.otlp.logs(&export.identity()) {
            log.export_to(logs);
        }
        Ok(Some(export))
    }

    fn identity(&self) -> ServiceIdentity<'_> {
        ServiceIdentity { app: &self.app, tenant: None, version: Some(&self.version) }
    }

    /// Returns the receiver of the app's traces, if traces are exported.
    pub fn traces(&self) -> Option<Arc<dyn TraceSink>> {
        self.otlp.traces(&self.identity())
    }

    /// Begins to export `metrics`, if metrics are exported. Also adds the counters of the export itself to `metrics`.
    pub(crate) fn export_metrics(&self, metrics: &Metrics) {
        let source: Arc<dyn MetricSource> = self.otlp.clone();
        metrics.add_source(Arc::downgrade(&source));
        self.otlp.export_metrics(metrics, &self.identity(), ServedApps::One);
    }

    /// Sends the remaining telemetry, and gives up after a bounded time.
    pub(crate) async fn end(&self) {
        self.otlp.shutdown().await;
    }
}
