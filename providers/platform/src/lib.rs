//! Provides configuration, secrets, logging and telemetry to one component of an app that was shipped as one Wasm file.
//!
//! The file has one instance of this provider for each component that needs it, so no component can read the values of
//! another one.
//!
//! - `wasi:config`: the values were put into the file when it was made.
//! - `isomer:secrets`: the value of a secret is read from an environment variable of the host. It is never in the file.
//! - `wasi:logging`, and the log records of `wasi:otel`: lines on standard error.
//! - spans and metrics of `wasi:otel`: dropped. The current span is the invalid one, as OpenTelemetry defines it for
//!   requests that are not recorded.

mod lines;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

wit_bindgen::generate!({
    inline: "
        package isomer:platform-provider;
        world provider {
            import isomer:parcel/settings@0.1.0;
            export wasi:config/store@0.2.0-rc.1;
            export isomer:secrets/store@0.1.0;
            export wasi:logging/logging@0.1.0-draft;
            export wasi:otel/types@0.2.0-rc.2;
            export wasi:otel/tracing@0.2.0-rc.2;
            export wasi:otel/logs@0.2.0-rc.2;
            export wasi:otel/metrics@0.2.0-rc.2;
        }
    ",
    path: [
        "../wit",
        "../../crates/wit/wit/isomer-secrets",
        "../../crates/wit/wit/wasi-config-0.2.0-rc.1",
        "../../crates/wit/wit/wasi-io-0.2.12",
        "../../crates/wit/wit/wasi-clocks-0.2.12",
        "../../crates/wit/wit/wasi-logging-0.1.0-draft",
        "../../crates/wit/wit/wasi-otel-0.2.0-rc.2",
    ],
    world: "isomer:platform-provider/provider",
    generate_all,
});

use exports::isomer::secrets::store as secrets;
use exports::wasi::config::store as config;
use exports::wasi::logging::logging;
use exports::wasi::otel::{logs, metrics, tracing};

/// The maximum length of a name in a message, in bytes. Names come from a component and can be long.
const NAME_BYTES_MAX: usize = 128;

export!(Provider);

struct Provider;

/// The values for one component, as `isomer ship wasm` writes them.
#[derive(Deserialize)]
struct Settings {
    /// The component's name. If several components share the instance, the names of all of them.
    component: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// The host's environment variable for each granted secret, by the secret's name.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        serde_json::from_slice(&isomer::parcel::settings::get()).expect("`isomer ship wasm` writes valid settings")
    })
}

impl config::Guest for Provider {
    fn get(key: String) -> Result<Option<String>, config::Error> {
        Ok(settings().config.get(&key).cloned())
    }

    fn get_all() -> Result<Vec<(String, String)>, config::Error> {
        Ok(settings().config.clone().into_iter().collect())
    }
}

impl secrets::Guest for Provider {
    fn get(name: String) -> Result<String, secrets::Error> {
        let Settings { component, secrets, .. } = settings();
        let Some(variable) = secrets.get(&name) else {
            let name = cut(&name, NAME_BYTES_MAX);
            lines::write(
                "warn",
                component,
                &format!(
                    "the secret `{name}` was denied; to grant it, write `grants.secrets = [\"{name}\"]` under `[components.{component}]`"
                ),
            );
            let denied = format!("the component `{component}` has no grant for the secret `{name}`");
            return Err(secrets::Error::AccessDenied(denied));
        };
        match std::env::var(variable) {
            Ok(value) => Ok(value),
            Err(std::env::VarError::NotPresent) => Err(secrets::Error::Unavailable(format!(
                "the secret `{name}` comes from the environment variable `{variable}`, which the host does not set: start the host with `--env {variable}`"
            ))),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(secrets::Error::Unavailable(format!("the secret `{name}` is not UTF-8 text")))
            }
        }
    }
}

impl logging::Guest for Provider {
    fn log(level: logging::Level, context: String, message: String) {
        let level = match level {
            logging::Level::Trace => "trace",
            logging::Level::Debug => "debug",
            logging::Level::Info => "info",
            logging::Level::Warn => "warn",
            logging::Level::Error => "error",
            logging::Level::Critical => "critical",
        };
        let message = if context.is_empty() { message } else { format!("{message} context={context:?}") };
        lines::write(level, &settings().component, &message);
    }
}

impl tracing::Guest for Provider {
    fn on_start(_context: tracing::SpanContext) {}

    fn on_end(_span: tracing::SpanData) {}

    fn current_span_context() -> tracing::SpanContext {
        tracing::SpanContext {
            trace_id: "0".repeat(32),
            span_id: "0".repeat(16),
            trace_flags: tracing::TraceFlags::empty(),
            is_remote: false,
            trace_state: Vec::new(),
        }
    }
}

impl logs::Guest for Provider {
    fn on_emit(data: logs::LogRecord) {
        let level = match data.severity_number {
            Some(1..=4) => "trace",
            Some(5..=8) => "debug",
            Some(13..=16) => "warn",
            Some(17..=20) => "error",
            Some(21..=24) => "critical",
            _ => "info",
        };
        let mut message = data.body.unwrap_or_default();
        for attribute in data.attributes.unwrap_or_default() {
            message.push_str(&format!(" {}={}", attribute.key, attribute.value));
        }
        lines::write(level, &settings().component, &message);
    }
}

impl metrics::Guest for Provider {
    fn export(_metrics: metrics::ResourceMetrics) -> Result<(), metrics::Error> {
        Ok(())
    }
}

/// Returns the first characters of `text` that fit into `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
