//! `isomer logs`: what an app has to say.

use std::fmt::Write as _;

use futures::StreamExt as _;
use isomer_api::{LogLine, LogQuery};
use isomer_console::{CommandError, Console, print};
use isomer_display::{escaped, escaped_json};

use crate::remote::node::{AppFlags, refused};
use crate::remote::show::instant;

/// Show the last lines of an app's log, and with `-f` new ones as they come.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// Show new lines as they come, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Show the app's access log instead, if the node keeps one (`isomer node --access-log`).
    #[arg(long)]
    access: bool,
    /// How many of the last lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    lines: u32,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let query = LogQuery { lines: Some(arguments.lines), follow: arguments.follow, access: arguments.access };
    node.ask(console, async |client| {
        let mut lines = client.logs(tenant, app, &query).await.map_err(refused(console))?;
        while let Some(line) = lines.next().await {
            let line = line.map_err(refused(console))?;
            print(&match node.json {
                true => escaped_json(&serde_json::to_string(&line).expect("a line is plain data")) + "\n",
                false => shown(&line),
            })?;
        }
        Ok(())
    })
}

/// A line for a person, and the lines that belong to it (further ones of its text, the call stack), which are indented. Whoever wrote them
/// does not get to write one that begins like another, nor to move the cursor.
fn shown(line: &LogLine) -> String {
    let LogLine { at_ms, component, stream, request, text, backtrace } = line;
    let who = escaped(component.as_deref().unwrap_or("node"));
    let request = request.as_ref().map(|request| format!(" {}", escaped(request.get(..8).unwrap_or(request))));
    let mark = if stream == "stderr" { "!" } else { "|" };
    let mut lines = text.lines();
    let first = escaped(lines.next().unwrap_or_default());
    let mut shown = format!("{} {who}{} {mark} {first}\n", instant(*at_ms), request.unwrap_or_default());
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
    use super::*;

    #[test]
    fn a_failure_is_read_line_by_line_and_nobody_writes_the_line_of_another() {
        let line = LogLine {
            at_ms: 1_709_164_801_007,
            component: Some("cart".to_owned()),
            stream: "stderr".to_owned(),
            request: Some("0123456789abcdef".to_owned()),
            text: "paid\n2024-02-29 00:00:00.000 node | all is well\u{1b}[1A\rx".to_owned(),
            backtrace: vec!["cart::pay (src/lib.rs:12)".to_owned(), "a\nb".to_owned()],
        };
        assert_eq!(
            shown(&line),
            "2024-02-29 00:00:01.007 cart 01234567 ! paid\n\
            \x20   2024-02-29 00:00:00.000 node | all is well\\u{1b}[1A\\rx\n\
            \x20     0: cart::pay (src/lib.rs:12)\n\
            \x20     1: a\\nb\n"
        );
    }
}
