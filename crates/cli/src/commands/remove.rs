//! `isomer remove`: removes an app from a node.

use crate::remote::node::{AppFlags, client_error};
use crate::remote::show::tenant_flag;
use isomer_console::{CliError, Console, FAILED, print};

/// Remove an app from a node. Without `--data`, the app's data is kept for the next deployment with the same name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppFlags,
    /// Also remove the app's stores and its log. They cannot be recovered.
    #[arg(long)]
    data: bool,
    /// Remove the app without asking for confirmation. Required for `--data` if there is no terminal.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let AppFlags { app, tenant, node } = &arguments.app;
    if arguments.data {
        let question = format!("remove {app} of {tenant} and all its data? The data cannot be recovered.");
        console.confirm_removal(
            &question,
            arguments.yes,
            &format!("isomer remove {app}{} --data --yes", tenant_flag(tenant)),
        )?;
    } else if !arguments.yes && console.confirm(&format!("remove {app} of {tenant}? Its data is kept.")) == Some(false)
    {
        return Err(CliError::ExitCode(FAILED));
    }
    node.with_client(console, async |client| {
        client.remove(tenant, app, arguments.data).await.map_err(client_error(console))
    })?;
    if node.json {
        let removed = serde_json::json!({ "tenant": tenant, "removed": app, "data": arguments.data });
        return print(&format!("{removed:#}\n"));
    }
    console.message(&match arguments.data {
        true => format!("removed {app} of {tenant} with its data"),
        false => format!("removed {app} of {tenant}; its data is kept for the next deployment with this name"),
    });
    Ok(())
}
