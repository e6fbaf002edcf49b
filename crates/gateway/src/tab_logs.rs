//! Batches of log lines that a tab sends. The lines are stored apart from those of components on the server, because a
//! visitor can send any line. All values come from a hostile peer: names must be those of the browser group's components, and everything has a
//! maximum size.

use isomer_telemetry::Severity;
use serde::Deserialize;

/// The maximum size of a batch in bytes.
pub const LOG_BATCH_BYTES_MAX: usize = 64 << 10;

/// The maximum number of lines in a batch.
pub const LOG_LINES_MAX: usize = 200;

/// The maximum length of a line in bytes. A longer line is cut off.
pub const LOG_LINE_BYTES_MAX: usize = 8 << 10;

/// The assumed number of bytes that a stored line has in addition to its message: names, time and ids.
const LINE_OVERHEAD_BYTES: usize = 256;

/// A batch as a tab sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    lines: Vec<TabLine>,
}

/// A line that a component logged in a tab.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TabLine {
    /// The component that logged the line.
    pub component: String,
    /// The output stream, `stdout` or `stderr`; `None` for a record of an interface for logging.
    #[serde(default)]
    pub stream: Option<TabStream>,
    /// The severity of a record.
    #[serde(default)]
    level: Option<String>,
    /// The message.
    pub message: String,
}

/// An output stream of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TabStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The reason why a batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLogs {
    /// The batch is not valid JSON of the expected form.
    #[error("the batch is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// The batch has too many lines.
    #[error("the batch has more than {LOG_LINES_MAX} lines")]
    TooMany,
    /// A line is from a component that does not run in tabs.
    #[error("a line is from a component that does not run in tabs")]
    Component,
}

impl TabLine {
    /// Returns the severity, if the line states a known one.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.level.as_deref().and_then(Severity::from_name)
    }
}

/// Returns the number of bytes that lines take in a log, approximately.
#[must_use]
pub fn stored_bytes(lines: &[TabLine]) -> usize {
    lines.iter().map(|line| line.message.len() + LINE_OVERHEAD_BYTES).sum()
}

/// Parses a batch. Only `components` may have logged its lines.
///
/// # Errors
/// If the batch is not valid.
pub fn parse_logs(bytes: &[u8], components: impl Fn(&str) -> bool) -> Result<Vec<TabLine>, InvalidLogs> {
    let Batch { mut lines } = serde_json::from_slice(bytes)?;
    if lines.len() > LOG_LINES_MAX {
        return Err(InvalidLogs::TooMany);
    }
    for line in &mut lines {
        if !components(&line.component) {
            return Err(InvalidLogs::Component);
        }
        let end =
            (0..=LOG_LINE_BYTES_MAX.min(line.message.len())).rev().find(|end| line.message.is_char_boundary(*end));
        line.message.truncate(end.unwrap_or_default());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(value: &serde_json::Value) -> Result<Vec<TabLine>, InvalidLogs> {
        parse_logs(value.to_string().as_bytes(), |name| name == "frontend")
    }

    #[test]
    fn lines_have_bounds() {
        let lines = parsed(&json!({ "lines": [
            { "component": "frontend", "stream": "stdout", "message": "hello" },
            { "component": "frontend", "level": "WARN", "message": "ä".repeat(LOG_LINE_BYTES_MAX) },
        ]}))
        .unwrap();
        assert_eq!((lines[0].stream, lines[0].severity()), (Some(TabStream::Stdout), None));
        assert_eq!(lines[1].severity(), Some(Severity::Warning));
        assert_eq!(lines[1].message.len(), LOG_LINE_BYTES_MAX);
    }

    #[test]
    fn a_batch_of_the_maximum_size_fits_into_the_rate_of_a_session() {
        let line = TabLine { component: "frontend".into(), stream: None, level: None, message: String::new() };
        let lines = vec![line; LOG_LINES_MAX];
        let most = stored_bytes(&lines) + LOG_BATCH_BYTES_MAX;
        assert!(most <= crate::app_gateway::SESSION_LOG_RATE.burst as usize, "{most}");
    }

    #[test]
    fn invalid_batches_are_refused() {
        let line = |component: &str| json!({ "component": component, "message": "" });
        assert!(matches!(parsed(&json!({ "lines": [line("cart")] })), Err(InvalidLogs::Component)));
        let many = vec![line("frontend"); LOG_LINES_MAX + 1];
        assert!(matches!(parsed(&json!({ "lines": many })), Err(InvalidLogs::TooMany)));
        for other in [json!([]), json!({}), json!({ "lines": [{}] }), json!({ "lines": [], "more": 1 })] {
            assert!(matches!(parsed(&other), Err(InvalidLogs::Json(_))), "{other}");
        }
    }
}
