//! `isomer top`: shows the current traffic of an app, and refreshes it in place.

use std::time::Duration;

use isomer_api::MetricsReport;
use isomer_console::{CliError, Console, print};
use isomer_display::{count, escaped};

use crate::observed::app::{ObservedApp, ObservedFlags};
use crate::observed::durations::parse_duration;
use crate::observed::live_screen::LiveScreen;
use crate::observed::screen::{self, BOLD, DIM, styled};
use crate::observed::traffic::Traffic;
use crate::remote::show;

/// The number of lines that are not rows of tables: the head, and the titles of three tables.
const OTHER_LINES: usize = 10;

/// The number of rows of each table if the height of the screen is not known.
const ROWS_DEFAULT: usize = 20;

/// The smallest time between two refreshes.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Show the current traffic of an app, refreshed in place. `q` or Ctrl-C quits.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: ObservedFlags,
    /// The time between two refreshes. Each refresh shows the traffic since the previous one.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,
    /// Measure once, print the result and quit. Works without a terminal.
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let interval = arguments.interval.max(INTERVAL_MIN);
    arguments.app.with_app(console, async |app| {
        let json = arguments.app.place.node.json;
        if arguments.once || json {
            let before = app.metrics(console).await?;
            let progress = console.progress();
            progress.step("measuring …");
            tokio::time::sleep(interval).await;
            drop(progress);
            let after = app.metrics(console).await?;
            return match json {
                true => print(&(serde_json::to_string(&after).expect("a report is plain data") + "\n")),
                false => print(&frame(&app, &Traffic::between(Some(&before), &after), &after, ROWS_DEFAULT)),
            };
        }
        let Some(mut live) = LiveScreen::open(console.stdout_colour()) else {
            return Err(CliError::usage("`isomer top` needs a terminal", "without a terminal: isomer top --once"));
        };
        let mut before = app.metrics(console).await?;
        live.show(&(head(&app, None, &before) + "measuring …\n"))?;
        while !live.quits_within(interval).await {
            let after = app.metrics(console).await?;
            let traffic = Traffic::between(Some(&before), &after);
            let rows = screen::height().map_or(ROWS_DEFAULT, |height| height.saturating_sub(OTHER_LINES) / 3).max(3);
            live.show(&frame(&app, &traffic, &after, rows))?;
            before = after;
        }
        Ok(())
    })
}

/// Formats one screen.
fn frame(app: &ObservedApp, traffic: &Traffic, report: &MetricsReport, rows_max: usize) -> String {
    let tables = match traffic.is_empty() {
        true => "no requests in this time\n".to_owned(),
        false => traffic.tables(screen::width(), rows_max),
    };
    head(app, Some(traffic), report) + &tables
}

/// Formats the lines above the tables: the app, the total of its requests, and the state of its process.
fn head(app: &ObservedApp, traffic: Option<&Traffic>, report: &MetricsReport) -> String {
    let mut facts = Vec::new();
    if let Some(traffic) = traffic {
        let requests = traffic.requests();
        facts.push(format!("{} requests/s", traffic.rate_of(&requests)));
        facts.push(format!("p50 {}", requests.shown_quantile(0.5)));
        facts.push(format!("p99 {}", requests.shown_quantile(0.99)));
        facts.push(format!("failed {}", requests.shown_failed()));
    }
    let total =
        |name: &str| report.metric(name).map(|metric| metric.series.iter().map(|series| series.value).sum::<f64>());
    let mut state = Vec::new();
    if let Some(active) = total("http.server.active_requests") {
        state.push(format!("{active:.0} in progress"));
    }
    if let Some(live) = total("isomer.instance.live") {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of instances")]
        state.push(count(live as u64, "instance"));
    }
    if let Some(memory) = total("process.memory.usage") {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes are not negative")]
        state.push(format!("{} in the process", show::size(memory as u64)));
    }
    let name = styled(BOLD, &escaped(app.name.as_str()));
    let separator = "  ";
    format!("{name}  {}\n{}\n\n", facts.join(separator), styled(DIM, &state.join(" · ")))
}
