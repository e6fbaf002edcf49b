//! `isomer remove`: takes an app from a node.

use crate::remote::node::{AppFlags, refused};
use crate::remote::show::of_tenant;
use isomer_console::{CommandError, Console, FAILED, print};

/// Remove an app from a node. Its data stays for the next deployment under its name, unless `--data` removes it too.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// Remove its stores and its log too. They cannot be recovered.
    #[arg(long)]
    data: bool,
    /// Do not ask. Needed for `--data` where there is no terminal.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    if arguments.data {
        let question = format!("remove {app} of {tenant} and all its data? It cannot be recovered.");
        console.confirm_removal(
            &question,
            arguments.yes,
            &format!("isomer remove {app}{} --data --yes", of_tenant(tenant)),
        )?;
    } else if !arguments.yes && console.confirm(&format!("remove {app} of {tenant}? Its data stays.")) == Some(false) {
        return Err(CommandError::ExitCode(FAILED));
    }
    node.ask(console, async |client| client.remove(tenant, app, arguments.data).await.map_err(refused(console)))?;
    if node.json {
        let removed = serde_json::json!({ "tenant": tenant, "removed": app, "data": arguments.data });
        return print(&format!("{removed:#}\n"));
    }
    console.message(&match arguments.data {
        true => format!("{app} of {tenant} is removed, with its data"),
        false => format!("{app} of {tenant} is removed; its data stays for the next deployment under this name"),
    });
    Ok(())
}
