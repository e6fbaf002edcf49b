//! `isomer logs`: shows the last lines of an app's log, and new lines with `-f`.

use std::fmt::Write as _;

use futures::StreamExt as _;
use isomer_api::{LogLevel, LogLine, LogQuery};
use isomer_console::{CliError, Console, print};
use isomer_display::{escaped, escaped_json, fields};

use crate::observed::app::{ObservedApp, ObservedFlags};
use crate::remote::node::client_error;
use crate::remote::show::instant;

use super::trace::{REQUEST_DIGITS, TRACE_DIGITS};

/// Show the last lines of an app's log. With `-f`, also show new lines as they are written.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: ObservedFlags,
    /// Show new lines as they are written, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Show the app's access log instead. There is one if the node or `isomer run` runs with `--access-log`.
    #[arg(long)]
    access: bool,
    /// Show the lines that tabs sent instead, in an app with a browser group. Visitors can send any line.
    #[arg(long, conflicts_with = "access")]
    tabs: bool,
    /// Show only the lines of one request: the id of the request or of its trace. The first digits are enough.
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    trace: Option<String>,
    /// Show only structured records and messages of the platform of this level or a more severe one: trace, debug, info,
    /// warning, error, critical.
    #[arg(long, value_name = "LEVEL", conflicts_with = "access")]
    level: Option<LogLevel>,
    /// The number of lines to show from the end of the log.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    lines: u32,
}

/// The message if the log is empty, which is normal for an app that was just deployed.
const NO_LINES: &str =
    "no log lines yet: the log contains the standard output and standard error of the app, and its failures";

/// The message if no line belongs to the request.
const NO_LINES_OF_REQUEST: &str =
    "no log lines of this request or trace: the app printed nothing, or the lines were removed";

/// The message if no record has the level.
const NO_RECORDS: &str =
    "no records of this level: components log records with levels as JSON lines, or with `wasi:logging` or `wasi:otel`";

/// The message if no tab has sent a line.
const NO_TAB_LINES: &str = "no lines of tabs yet: components that run in tabs printed nothing";

/// The message if the access log is empty.
const NO_REQUESTS: &str = "no requests logged yet: `isomer node` and `isomer run` log requests with `--access-log`";

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let mut query = LogQuery {
        lines: Some(arguments.lines),
        follow: arguments.follow,
        access: arguments.access,
        tabs: arguments.tabs,
        level: arguments.level,
        ..LogQuery::default()
    };
    let json = arguments.app.place.node.json;
    arguments.app.with_app(console, async |app| {
        if let Some(id) = &arguments.trace {
            name_origin(&mut query, &app, id, console).await?;
        }
        let lines = app.client.logs(&app.tenant, &app.name, &query).await;
        let mut lines = lines.map_err(client_error(console))?;
        let mut is_empty = true;
        while let Some(line) = lines.next().await {
            let line = line.map_err(client_error(console))?;
            is_empty = false;
            print(&match json {
                true => escaped_json(&serde_json::to_string(&line).expect("a line is plain data")) + "\n",
                false => shown(&line),
            })?;
        }
        if is_empty && !arguments.follow {
            console.message(match (&arguments.trace, arguments.access, arguments.level) {
                (Some(_), ..) => NO_LINES_OF_REQUEST,
                (None, true, _) => NO_REQUESTS,
                (None, false, None) if arguments.tabs => NO_TAB_LINES,
                (None, false, Some(_)) => NO_RECORDS,
                (None, false, None) => NO_LINES,
            });
        }
        Ok(())
    })
}

/// Limits `query` to the lines of one request or trace. `id` is the complete id of a request or of a trace, or the
/// first digits of the id of a stored trace.
async fn name_origin(query: &mut LogQuery, app: &ObservedApp, id: &str, console: &Console) -> Result<(), CliError> {
    let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A complete id is used without looking up a trace: a request has log lines even if its trace is not stored.
    match id.len() {
        REQUEST_DIGITS if is_hex => query.request = Some(id.to_ascii_lowercase()),
        TRACE_DIGITS if is_hex => query.trace = Some(id.to_ascii_lowercase()),
        _ => query.trace = Some(super::trace::find(app, id, console).await?.summary.id),
    }
    Ok(())
}

/// Formats an entry of the log for people. All lines after the first one, including those of a backtrace, are indented,
/// and control characters are escaped. So an app can neither forge an entry nor move the cursor.
fn shown(line: &LogLine) -> String {
    let LogLine { at_ms, component, stream, request, text, level, attributes, backtrace, .. } = line;
    let source = escaped(component.as_deref().unwrap_or("node"));
    // The id is printed as a whole, so that it can be copied and searched for.
    let request = request.as_ref().map(|request| format!(" {}", escaped(request)));
    // Lines of the platform have their own mark, so that the output of a component cannot imitate them. The same holds
    // for lines of tabs, which cannot imitate those of a component.
    let mark = match stream.as_str() {
        "stderr" => "!",
        "node" => "*",
        "tab" => "~",
        _ => "|",
    };
    let mut lines = text.lines();
    let first = escaped(lines.next().unwrap_or_default());
    let level = level.map(|level| format!("{level} ")).unwrap_or_default();
    let attributes = fields(attributes.iter());
    let mut shown =
        format!("{} {source}{} {mark} {level}{first}{attributes}\n", instant(*at_ms), request.unwrap_or_default());
    for line in lines {
        let _ = writeln!(shown, "    {}", escaped(line));
    }
    for (number, frame) in backtrace.iter().enumerate() {
        let _ = writeln!(shown, "    {number:>3}: {}", escaped(frame));
    }
    shown
}

#[cfg(test)]
mod tests {
    use isomer_api::TraceValue;

    use super::*;

    #[test]
    fn lines_of_the_platform_and_of_tabs_have_their_own_marks() {
        let line = |stream: &str| LogLine {
            at_ms: 0,
            component: Some("cart".to_owned()),
            stream: stream.to_owned(),
            text: "the guest trapped".to_owned(),
            ..LogLine::default()
        };
        let marks = ["stdout", "stderr", "access", "node", "tab"].map(|stream| shown(&line(stream)));
        assert_eq!(
            marks.map(|text| text.trim_start_matches("1970-01-01 00:00:00.000 cart ").to_owned()),
            ["|", "!", "|", "*", "~"].map(|mark| format!("{mark} the guest trapped\n"))
        );
    }

    #[test]
    fn a_record_shows_its_level_and_its_fields() {
        let line = LogLine {
            component: Some("cart".to_owned()),
            stream: "log".to_owned(),
            text: "paid".to_owned(),
            level: Some(LogLevel::Warning),
            attributes: [
                ("order".to_owned(), TraceValue::Int(7)),
                ("note".to_owned(), TraceValue::Text("a \u{1b}[2J".to_owned())),
            ]
            .into(),
            ..LogLine::default()
        };
        assert_eq!(shown(&line), "1970-01-01 00:00:00.000 cart | warning paid note=\"a \\u{1b}[2J\" order=7\n");
    }

    #[test]
    fn further_lines_are_indented_and_control_characters_are_escaped() {
        let line = LogLine {
            at_ms: 1_709_164_801_007,
            component: Some("cart".to_owned()),
            stream: "stderr".to_owned(),
            request: Some("0123456789abcdef".to_owned()),
            text: "paid\n2024-02-29 00:00:00.000 node | all is well\u{1b}[1A\rx".to_owned(),
            backtrace: vec!["cart::pay (src/lib.rs:12)".to_owned(), "a\nb".to_owned()],
            ..LogLine::default()
        };
        assert_eq!(
            shown(&line),
            "2024-02-29 00:00:01.007 cart 0123456789abcdef ! paid\n\
            \x20   2024-02-29 00:00:00.000 node | all is well\\u{1b}[1A\\rx\n\
            \x20     0: cart::pay (src/lib.rs:12)\n\
            \x20     1: a\\nb\n"
        );
    }
}
