//! `wasi:logging`: records with a level. No grant is needed, because records reach only the log of the app, like lines
//! on standard output.

use isomer_runtime::{Guest, InterfaceOwner, Provider};
use isomer_telemetry::{AttributeList, Severity};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance};

use super::records::{self, RecordDraft, short};
use super::{owner_name, split};

/// Provides `wasi:logging/logging`, with and without a version.
#[derive(Debug, Clone, Copy)]
pub struct LoggingProvider;

/// The WIT type `wasi:logging/logging.level`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the engine creates the variants")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warning,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

impl Provider for LoggingProvider {
    fn provides(&self, interface: &str) -> bool {
        matches!(split(interface), ("wasi:logging/logging", "" | "0.1.0-draft"))
    }

    fn link(
        &self,
        instance: &mut LinkerInstance<'_, Guest>,
        _interface: &str,
        owner: &InterfaceOwner,
    ) -> wasmtime::Result<()> {
        let component = owner_name(owner);
        type Parameters = (Level, String, String);
        instance.func_wrap("log", move |mut store: StoreContextMut<'_, Guest>, parameters: Parameters| {
            let (level, context, message) = parameters;
            let mut attributes = AttributeList::default();
            if !context.is_empty() {
                attributes.push("context", short(&context));
            }
            let draft = RecordDraft { severity: Some(level.into()), time_ns: None, message: &message, attributes };
            records::write(&mut store, &component, &draft, |_, _| None);
            Ok(())
        })
    }
}
