//! `wasi:logging`: the type of its levels, and the implementation for commands, in which each record becomes a line on
//! standard error.
//!
//! Apps get another implementation. Their records get their request and their span, and reach the app's log.

use std::io::Write as _;

use isomer_telemetry::Severity;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

/// The ids of the interface that guests may import.
const INTERFACES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

/// The WIT type `wasi:logging/logging.level`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum GuestLogLevel {
    /// The level `trace`.
    #[component(name = "trace")]
    Trace,
    /// The level `debug`.
    #[component(name = "debug")]
    Debug,
    /// The level `info`.
    #[component(name = "info")]
    Info,
    /// The level `warn`.
    #[component(name = "warn")]
    Warn,
    /// The level `error`.
    #[component(name = "error")]
    Error,
    /// The level `critical`.
    #[component(name = "critical")]
    Critical,
}

impl GuestLogLevel {
    /// Returns the severity of records with this level.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Trace => Severity::Trace,
            Self::Debug => Severity::Debug,
            Self::Info => Severity::Info,
            Self::Warn => Severity::Warning,
            Self::Error => Severity::Error,
            Self::Critical => Severity::Critical,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Defines the interface under all its ids.
///
/// # Errors
/// If the linker refuses a definition.
pub(crate) fn define_all<T: 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    type Parameters = (GuestLogLevel, String, String);
    for interface in INTERFACES {
        linker.instance(interface)?.func_wrap("log", |_: StoreContextMut<'_, T>, parameters: Parameters| {
            let (level, context, message) = parameters;
            // Logging never fails for the guest, as for an app.
            let _ = std::io::stderr().lock().write_all(line(level, &context, &message).as_bytes());
            Ok(())
        })?;
    }
    Ok(())
}

fn line(level: GuestLogLevel, context: &str, message: &str) -> String {
    let level = level.name();
    if context.is_empty() { format!("{level}: {message}\n") } else { format!("{level}: {context}: {message}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_and_the_context() {
        assert_eq!(line(GuestLogLevel::Warn, "payment", "declined"), "warn: payment: declined\n");
        assert_eq!(line(GuestLogLevel::Critical, "", "no card"), "critical: no card\n");
    }
}
