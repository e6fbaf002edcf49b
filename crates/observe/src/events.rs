//! Writes the log messages of the platform's crates to the log of the process, for example about a damaged file or a
//! directory that cannot be opened.
//!
//! The messages are `tracing` events. A static filter of `tracing` excludes messages that the [`Levels`] do not
//! include. `tracing` caches the decision of the filter for each place in the code, so an excluded message only costs
//! reading this cached value.

use std::fmt::{Debug, Write as _};

use isomer_display::excerpt;
use isomer_telemetry::{Level, Levels, PLATFORM_TARGET};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::log::Log;

/// Starts to write log messages of this process's crates to `log`, if the log's levels include them. Only the first
/// call in a process has an effect.
pub fn listen_to_events(log: Log) {
    // This fails if the process already has a subscriber: either that of a program that embeds Isomer, or that of
    // another node in the same test.
    let _ = tracing::subscriber::set_global_default(subscriber(log));
}

fn subscriber(log: Log) -> impl Subscriber + Send + Sync {
    let targets = targets(log.levels());
    tracing_subscriber::registry().with(Bridge(log).with_filter(targets))
}

/// Converts the levels to a static filter, whose decisions `tracing` caches.
fn targets(levels: &Levels) -> Targets {
    let platform = Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target(PLATFORM_TARGET, level_filter(levels.default_level()));
    levels.directives().fold(platform, |targets, (target, level)| targets.with_target(target, level_filter(level)))
}

fn level_filter(level: Option<Level>) -> LevelFilter {
    match level {
        None => LevelFilter::OFF,
        Some(Level::Error) => LevelFilter::ERROR,
        Some(Level::Warning) => LevelFilter::WARN,
        Some(Level::Info) => LevelFilter::INFO,
        Some(Level::Debug) => LevelFilter::DEBUG,
        Some(Level::Trace) => LevelFilter::TRACE,
    }
}

struct Bridge(Log);

impl<S: Subscriber> Layer<S> for Bridge {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if !metadata.target().starts_with(PLATFORM_TARGET) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.0.message_of(metadata.target(), (*metadata.level()).into(), text.message + &text.fields);
    }
}

/// The text of an event: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => {
                self.message = excerpt::cut(format_args!("{value:?}"), excerpt::TEXT_BYTES_MAX);
                Ok(())
            }
            name => {
                write!(self.fields, " ({name}: {})", excerpt::cut(format_args!("{value:?}"), excerpt::TEXT_BYTES_MAX))
            }
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::log::Format;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Emits an event of each level, and an event of a third-party crate. Returns the lines in the log.
    fn written(levels: &str, format: Format) -> Vec<String> {
        let memory = Memory::default();
        let log = Log::start(memory.clone(), format, false).unwrap().with_levels(levels.parse().unwrap());
        tracing::subscriber::with_default(subscriber(log.clone()), || {
            tracing::error!(target: "isomer_front::x", code = 7, "it broke");
            tracing::warn!(target: "isomer_front::x", "it may break");
            tracing::info!(target: "isomer_node::y", "it is done");
            tracing::debug!(target: "isomer_node::y", part = "a", "it continues");
            tracing::trace!(target: "isomer_node::y", "a step");
            tracing::error!(target: "hyper::proto", "Authorization: Bearer 123");
        });
        log.note("a note");
        log.warn("a warning");
        log.flush();
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        // The first 13 characters of a line are the time of day.
        text.lines().map(|line| line.get(13..).unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn the_most_specific_directive_applies() {
        let levels: Levels = "warn, front=debug,isomer_runtime::code=trace,cli=off,isomer-node=error".parse().unwrap();
        let targets = targets(&levels);
        let enables = |target: &str, level| targets.would_enable(target, &level);
        assert!(enables("isomer_front::connection", tracing::Level::DEBUG));
        assert!(!enables("isomer_front::connection", tracing::Level::TRACE));
        assert!(enables("isomer_runtime::code", tracing::Level::TRACE));
        assert!(enables("isomer_runtime::lanes", tracing::Level::WARN));
        assert!(!enables("isomer_runtime::lanes", tracing::Level::INFO));
        assert!(!enables("isomer::serving", tracing::Level::ERROR));
        assert!(!enables("isomer_node::host", tracing::Level::WARN));
        // The targets of third-party crates are disabled.
        for target in ["h2::codec", "hyper", "rustls::client", "wasmtime"] {
            assert!(!enables(target, tracing::Level::ERROR), "{target}");
        }
    }

    #[test]
    fn each_level_is_shown_by_its_name() {
        let all = [
            "error it broke (code: 7)",
            "warning it may break",
            "it is done",
            "debug isomer_node::y: it continues (part: a)",
            "trace isomer_node::y: a step",
            "a note",
            "warning a warning",
        ];
        let text = Format::Text { colour: false };
        assert_eq!(written("trace", text), all);
        assert_eq!(written("info", text), [&all[..3], &all[5..]].concat());
        assert_eq!(written("error", text), all[..1]);
        assert_eq!(written("error,node=debug", text), [all[0], all[2], all[3]]);
        assert!(written("off", text).is_empty());
    }

    #[test]
    fn programs_get_the_level_and_the_part() {
        let memory = Memory::default();
        let log = Log::start(memory.clone(), Format::Json, false).unwrap().with_levels("debug".parse().unwrap());
        tracing::subscriber::with_default(subscriber(log.clone()), || {
            tracing::error!(target: "isomer_front::x", "it broke");
            tracing::debug!(target: "isomer_node::y", "it continues");
        });
        log.flush();
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines.iter().map(|line| [&line["event"], &line["target"], &line["text"]]).collect();
        assert_eq!(told, [["error", "isomer_front::x", "it broke"], ["debug", "isomer_node::y", "it continues"]]);
    }
}
