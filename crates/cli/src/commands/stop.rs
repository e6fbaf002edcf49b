//! `isomer stop`: stops serving an app.

use crate::remote::node::{AppFlags, refused};
use crate::remote::show::of_tenant;
use isomer_console::{CommandError, Console, print};

/// Stop serving an app of a node: requests in flight finish, new ones get 503, its data stays.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let info = node.ask(console, async |client| client.stop(tenant, app).await.map_err(refused(console)))?;
    if node.json {
        let value = serde_json::to_value(&info).expect("an answer is plain data");
        return print(&format!("{value:#}\n"));
    }
    console.message(&format!("{app} of {tenant} is stopped; isomer start {app}{} serves it again", of_tenant(tenant)));
    Ok(())
}
