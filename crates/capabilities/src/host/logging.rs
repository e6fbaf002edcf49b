//! `wasi:logging`: records with a level. No grant is needed, because records reach only the log of the app, like lines
//! on standard output.

use isomer_runtime::{Guest, GuestLogLevel, InterfaceOwner, Provider};
use isomer_telemetry::AttributeList;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::records::{self, RecordDraft, short};
use super::{owner_name, split};

/// Provides `wasi:logging/logging`, with and without a version.
#[derive(Debug, Clone, Copy)]
pub struct LoggingProvider;

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
        type Parameters = (GuestLogLevel, String, String);
        instance.func_wrap("log", move |mut store: StoreContextMut<'_, Guest>, parameters: Parameters| {
            let (level, context, message) = parameters;
            let mut attributes = AttributeList::default();
            if !context.is_empty() {
                attributes.push("context", short(&context));
            }
            let draft = RecordDraft { severity: Some(level.severity()), time_ns: None, message: &message, attributes };
            records::write(&mut store, &component, &draft, |_, _| None);
            Ok(())
        })
    }
}
