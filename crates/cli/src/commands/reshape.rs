//! `isomer reshape`: runs an app in another shape while the app serves requests.

use isomer_api::{DeployMessage, ReshapeRequest};
use isomer_console::{CliError, Console};

use crate::commands::deploy;
use crate::remote::node::{AppFlags, client_error};

/// Run an app in another shape while it serves requests. The components, the data and the host names do not change.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// The shape: `monolith`, or a shape of the app's manifest.
    #[arg(value_name = "SHAPE")]
    shape: String,
    /// A message that `isomer revisions` shows.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let deployed = node.with_client(console, async |client| {
        let progress = console.progress();
        progress.step(format!("starting {app} in another shape"));
        let reshape = ReshapeRequest { shape: arguments.shape.clone(), message: arguments.message.clone() };
        client.reshape(tenant, app, &reshape).await.map_err(client_error(console))
    })?;
    deploy::report_deployed(&deployed, tenant, app, node.json, console)
}
