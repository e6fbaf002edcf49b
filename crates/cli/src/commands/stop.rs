//! `isomer stop`: stops serving an app.

use crate::remote::node::{AppFlags, client_error};
use crate::remote::show::tenant_flag;
use isomer_console::{CliError, Console, print};

/// Stop serving an app of a node. Requests in progress finish, new requests receive 503, and the app's data is kept.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let info =
        node.with_client(console, async |client| client.stop(tenant, app).await.map_err(client_error(console)))?;
    if node.json {
        let value = serde_json::to_value(&info).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    console
        .message(&format!("stopped {app} of {tenant}; to serve it again: isomer start {app}{}", tenant_flag(tenant)));
    Ok(())
}
