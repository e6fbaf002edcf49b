//! Reports of accesses that guests were denied, in the log of their app. A repeated denial is reported once per
//! [`PERIOD`].
//!
//! A guest chooses what it tries to access and how often, so it must not be able to choose the length of a line or the
//! number of lines. Names are truncated, and a line is not repeated for [`PERIOD`]. Denials that are not reported are
//! counted, and the next line is preceded by their number.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use isomer_display::excerpt;
use isomer_telemetry::{Event, EventSink};

/// The period after the report of a line during which the same line is not reported again.
const PERIOD: Duration = Duration::from_secs(60);

/// The maximum number of different lines per [`PERIOD`]. Further denials are only counted.
const LINES_MAX: usize = 32;

/// Reports the denials of one group, at a limited rate.
pub struct Denials {
    sink: Arc<dyn EventSink>,
    reported: Mutex<ReportedLines>,
    hasher: RandomState,
}

#[derive(Default)]
struct ReportedLines {
    since: Option<Instant>,
    /// The hashes of the lines that were reported in the current period.
    lines: HashSet<u64>,
    /// The number of denials since the last reported line. They were counted, but not reported.
    unreported: u64,
}

impl Denials {
    pub(crate) fn new(sink: Arc<dyn EventSink>) -> Arc<Self> {
        Arc::new(Self { sink, reported: Mutex::default(), hasher: RandomState::new() })
    }

    /// Reports that an access of `component` was denied, unless the same line was reported within the last minute.
    /// `text` states what was denied, and how to grant it. The caller must truncate names in `text` that the guest
    /// chose ([`excerpt::name`]).
    pub fn report(&self, component: &str, text: &str) {
        self.report_at(component, text, Instant::now());
    }

    fn report_at(&self, component: &str, text: &str, now: Instant) {
        let text = excerpt::cut(text, excerpt::TEXT_BYTES_MAX);
        let unreported = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
                reported.since = Some(now);
                reported.lines.clear();
            }
            if reported.lines.len() >= LINES_MAX || !reported.lines.insert(self.hasher.hash_one((component, &text))) {
                reported.unreported += 1;
                return;
            }
            std::mem::take(&mut reported.unreported)
        };
        if unreported > 0 {
            let text = format!("{unreported} more accesses without a grant were denied");
            self.sink.emit(Event::AccessDenied { component, text: &text });
        }
        self.sink.emit(Event::AccessDenied { component, text: &text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl EventSink for Lines {
        fn emit(&self, event: Event<'_>) {
            if let Event::AccessDenied { component, text } = event {
                self.0.lock().unwrap().push(format!("{component} {text}"));
            }
        }
    }

    #[test]
    fn each_denial_is_reported_once_in_a_while_and_the_rest_is_counted() {
        let sink = Arc::new(Lines::default());
        let denials = Denials::new(sink.clone());
        let now = Instant::now();
        for _ in 0..1000 {
            denials.report_at("cart", "no store `a`", now);
        }
        denials.report_at("pages", "no store `a`", now);
        let lines = std::mem::take(&mut *sink.0.lock().unwrap());
        assert_eq!(lines[0], "cart no store `a`");
        assert_eq!(lines[1], "pages 999 more accesses without a grant were denied");
        assert_eq!(lines[2..], ["pages no store `a`"]);
        for number in 0..1000 {
            denials.report_at("cart", &format!("no store `{number}`"), now);
        }
        assert_eq!(std::mem::take(&mut *sink.0.lock().unwrap()).len(), LINES_MAX - 2);
        denials.report_at("cart", &"x".repeat(1 << 20), now + PERIOD);
        let lines = sink.0.lock().unwrap();
        assert!(lines.len() == 2 && lines[1].len() < 2 * excerpt::TEXT_BYTES_MAX, "{} lines", lines.len());
    }
}
