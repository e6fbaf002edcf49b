//! `isomer start`: serves a stopped app again.

use crate::remote::node::{AppFlags, client_error};
use isomer_console::{CliError, Console, print};

/// Serve a stopped app of a node again.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let info =
        node.with_client(console, async |client| client.start(tenant, app).await.map_err(client_error(console)))?;
    if node.json {
        let value = serde_json::to_value(&info).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    console.message(&format!("started {app} of {tenant}"));
    Ok(())
}
