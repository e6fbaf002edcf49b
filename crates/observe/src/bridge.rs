//! Warnings of the platform's own crates (a denied grant, a directory that cannot be opened), brought into the log.
//!
//! They come through `tracing`, whose static filter keeps everything below a warning at the price of one load on the request's path.

use std::fmt::{Debug, Write as _};

use isomer_runtime::foreign;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::log::Log;

/// From now on, warnings and errors of this process's crates are lines of `log`. The first call in a process counts.
pub fn listen_to_warnings(log: Log) {
    let subscriber = tracing_subscriber::registry().with(Bridge(log).with_filter(LevelFilter::WARN));
    // Somebody else listens already: an embedder, or another node of the same tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Bridge(Log);

impl<S: Subscriber> Layer<S> for Bridge {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN || !event.metadata().target().starts_with("isomer") {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.0.warn(text.message + &text.fields);
    }
}

/// An event in words: its message, then its fields.
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
                self.message = foreign::cut(format_args!("{value:?}"), foreign::TEXT_BYTES_MAX);
                Ok(())
            }
            name => {
                write!(self.fields, " ({name}: {})", foreign::cut(format_args!("{value:?}"), foreign::TEXT_BYTES_MAX))
            }
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
}
