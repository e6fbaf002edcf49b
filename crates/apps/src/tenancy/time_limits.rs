//! The maximum durations of requests and SQL statements on a node, even if manifests allow more.
//!
//! If a manifest sets a longer duration, the node uses its maximum instead, so that an app that was written for another
//! node can be deployed. The response to the deployment then contains a warning. If a maximum is lowered after an app
//! was deployed, the lower maximum applies from the next load of the app, without a warning.

use std::time::Duration;

use isomer_manifest::{App, NodeLimits, show_duration};

/// The time limits of a node for all apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// The maximum duration of a request, from its head to the end of its response.
    pub request: Duration,
    /// The maximum duration of a stream of server-sent events.
    pub stream: Duration,
    /// The maximum duration of an SQL statement.
    pub statement: Duration,
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl TimeLimits {
    /// Ten years for each limit, so that no limit is ever reached. Adding `Duration::MAX` to a clock's time would
    /// overflow.
    pub const NONE: Self = Self { request: TEN_YEARS, stream: TEN_YEARS, statement: TEN_YEARS };

    /// Returns the limits that a node file sets.
    #[must_use]
    pub fn of(limits: &NodeLimits) -> Self {
        Self { request: limits.request_deadline(), stream: limits.stream(), statement: limits.statement_timeout() }
    }

    /// Returns a warning for each duration in the manifest that is longer than the node allows.
    #[must_use]
    pub fn warnings(&self, app: &App) -> Vec<String> {
        let warn = |what: String, configured: Duration, max: Duration| {
            let (configured, max) = (show_duration(configured), show_duration(max));
            let key = key(&what);
            format!(
                "warning: {what} is {configured}, more than this node allows, so {max} applies\n\
                 hint: write {max} or less, or raise `{key}` under `[limits]` in the node file"
            )
        };
        let deadlines = app.components.iter().filter_map(|(name, component)| {
            let configured = component.limits.request_deadline.filter(|configured| *configured > self.request)?;
            Some(warn(format!("`request_deadline` of component `{name}`"), configured, self.request))
        });
        let streams = app.components.iter().filter_map(|(name, component)| {
            let configured = component.limits.stream_max.filter(|configured| *configured > self.stream)?;
            Some(warn(format!("`stream` of component `{name}`"), configured, self.stream))
        });
        let timeouts = app.sql.iter().filter_map(|(name, store)| {
            let configured = store.statement_timeout.filter(|configured| *configured > self.statement)?;
            Some(warn(format!("`statement_timeout` of the SQL store `{name}`"), configured, self.statement))
        });
        deadlines.chain(streams).chain(timeouts).collect()
    }
}

/// Returns the manifest key at the beginning of the description `what`.
fn key(what: &str) -> &str {
    what.split('`').nth(1).unwrap_or(what)
}

#[cfg(test)]
mod tests {
    use isomer_diagnostics::SourceFile;

    use super::*;

    #[test]
    fn times_beyond_the_limits_are_reported() {
        let manifest = "[app]\nname = \"a\"\nversion = \"1.0.0\"\n[components.c]\nwasm = \"c.wasm\"\ngrants.sql = [\"s\", \"t\"]\n\
                        limits = { request_deadline = \"1h\", stream = { max = \"48h\" } }\n[sql.s]\nstatement_timeout = \"1h\"\n[sql.t]\nstatement_timeout = \"60s\"\n";
        let app = isomer_manifest::parse(&SourceFile::new("isomer.toml", manifest)).expect("the manifest is valid").app;
        let warnings = TimeLimits::of(&NodeLimits::default()).warnings(&app);
        let starts = [
            "warning: `request_deadline` of component `c` is 1h, more than this node allows, so 10m applies\nhint: write 10m",
            "warning: `stream` of component `c` is 48h, more than this node allows, so 24h applies\nhint: write 24h",
            "warning: `statement_timeout` of the SQL store `s` is 1h, more than this node allows, so 1m applies\nhint: write 1m",
        ];
        assert_eq!(warnings.len(), starts.len(), "{warnings:?}");
        for (warning, start) in warnings.iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
        assert!(TimeLimits::NONE.warnings(&app).is_empty());
    }
}
