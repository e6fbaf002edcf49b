//! `isomer start`: serves an app again.

use crate::console::{Console, print};
use crate::fail::Fail;
use crate::remote::node::{AppFlags, refused};

/// Serve a stopped app of a node again.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let AppFlags { app, tenant, node } = &arguments.app;
    let info = node.ask(console, async |client| client.start(tenant, app).await.map_err(refused(console)))?;
    if node.json {
        let value = serde_json::to_value(&info).expect("an answer is plain data");
        return print(&format!("{value:#}\n"));
    }
    console.say(&format!("{app} of {tenant} serves again"));
    Ok(())
}
