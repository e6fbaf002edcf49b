//! `wasi:logging` for commands: each record becomes a line on standard error.
//!
//! Only commands get this implementation. The records of apps get their request and their span, and reach the app's log.

use std::io::Write as _;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

/// The ids of the interface that guests may import.
const INTERFACES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

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

impl Level {
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
    type Parameters = (Level, String, String);
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

fn line(level: Level, context: &str, message: &str) -> String {
    let level = level.name();
    if context.is_empty() { format!("{level}: {message}\n") } else { format!("{level}: {context}: {message}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_and_the_context() {
        assert_eq!(line(Level::Warn, "payment", "declined"), "warn: payment: declined\n");
        assert_eq!(line(Level::Critical, "", "no card"), "critical: no card\n");
    }
}
