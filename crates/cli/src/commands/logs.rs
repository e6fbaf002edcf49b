//! `isomer logs`: what an app has to say.

use futures::StreamExt as _;
use isomer_api::{LogLine, LogQuery};

use crate::console::{Console, print};
use crate::fail::Fail;
use crate::remote::node::{AppFlags, refused};
use crate::remote::show::{escaped, instant};

/// Show the last lines of an app's log, and go on with those that come.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// Go on with the lines that come, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// The requests that it answered, in place of what it says: if the node logs them (`isomer node --access-log`).
    #[arg(long)]
    access: bool,
    /// How many of the last lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    lines: u32,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let query = LogQuery { lines: Some(arguments.lines), follow: arguments.follow, access: arguments.access };
    node.ask(console, async |client| {
        let mut lines = client.logs(tenant, app, &query).await.map_err(refused(console))?;
        while let Some(line) = lines.next().await {
            let line = line.map_err(refused(console))?;
            print(&match node.json {
                true => format!("{}\n", serde_json::to_string(&line).expect("a line is plain data")),
                false => shown(&line),
            })?;
        }
        Ok(())
    })
}

/// A line for a person. Whoever wrote it does not get to write further lines, nor to move the cursor.
fn shown(line: &LogLine) -> String {
    let LogLine { at_ms, component, stream, request, text } = line;
    let who = escaped(component.as_deref().unwrap_or("node"));
    let request = request.as_ref().map(|request| format!(" {}", escaped(request.get(..8).unwrap_or(request))));
    let mark = if stream == "stderr" { "!" } else { "|" };
    format!("{} {who}{} {mark} {}\n", instant(*at_ms), request.unwrap_or_default(), escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let line = LogLine {
            at_ms: 1_709_164_801_007,
            component: Some("cart".to_owned()),
            stream: "stderr".to_owned(),
            request: Some("0123456789abcdef".to_owned()),
            text: "paid\n2024-02-29 00:00:00.000 node | all is well\u{1b}[1A".to_owned(),
        };
        assert_eq!(
            shown(&line),
            "2024-02-29 00:00:01.007 cart 01234567 ! paid\\n2024-02-29 00:00:00.000 node | all is well\\u{1b}[1A\n"
        );
    }
}
