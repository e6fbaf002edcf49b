//! `isomer metrics`: shows the traffic of an app by route, seam and store.

use std::time::Duration;

use isomer_api::{MetricsQuery, MetricsReport};
use isomer_console::{CliError, Console, print};
use isomer_display::escaped_json;

use crate::observed::app::{ObservedApp, ObservedFlags};
use crate::observed::durations::parse_duration;
use crate::observed::screen;
use crate::observed::traffic::Traffic;
use crate::remote::node::client_error;

/// The maximum number of rows of a table.
const ROWS_MAX: usize = 50;

/// Show the traffic of an app: the rate, durations and failures of its routes, seams and stores.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: ObservedFlags,
    /// Measure for this time (`10s`) instead of showing everything since the process started.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    over: Option<Duration>,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    arguments.app.with_app(console, async |app| {
        let before = match arguments.over {
            None => None,
            Some(period) => {
                let before = app.metrics(console).await?;
                let progress = console.progress();
                progress.step("measuring …");
                tokio::time::sleep(period).await;
                Some(before)
            }
        };
        let report = app.metrics(console).await?;
        if arguments.app.place.node.json {
            return print(&(escaped_json(&serde_json::to_string(&report).expect("a report is plain data")) + "\n"));
        }
        let traffic = Traffic::between(before.as_ref(), &report);
        if traffic.is_empty() {
            console.message(if before.is_some() { "no requests in this time" } else { "no requests yet" });
            return Ok(());
        }
        print(&traffic.tables(screen::width(), ROWS_MAX))
    })
}

impl ObservedApp {
    /// Returns the metrics of the app.
    pub(crate) async fn metrics(&self, console: &Console) -> Result<MetricsReport, CliError> {
        // A process that serves only this app needs no filter. Without a filter, the report also contains the metrics
        // of the process itself.
        let query = match self.is_here {
            true => MetricsQuery::default(),
            false => MetricsQuery {
                tenant: Some(self.tenant.clone()),
                app: Some(self.name.to_string()),
                ..MetricsQuery::default()
            },
        };
        self.client.metrics(&query).await.map_err(client_error(console))
    }
}
