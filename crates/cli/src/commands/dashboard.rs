//! `isomer dashboard`: prints a link that opens the dashboard in a browser.

use isomer_admin::{NodeAddress, dashboard_link};
use isomer_api::DashboardCode;
use isomer_console::{CliError, Console, print};
use serde_json::json;

use crate::observed::app::observed_client;
use crate::remote::node::{NodeFlags, block_on, client_error};

/// Print a link that opens the dashboard: the app as a live map, its traces, logs, metrics and deployments.
///
/// The link works once. The browser then has the rights of the token with which the link was created.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let client = observed_client(&arguments.node, console)?;
    let NodeAddress::Tcp(_) = client.node() else {
        return Err(CliError::usage(
            "browsers cannot connect to a Unix socket",
            "let the process serve its admin API at a TCP address: --admin 127.0.0.1:7171",
        ));
    };
    let DashboardCode { code, expires_in_s } =
        block_on(async { client.create_dashboard_code().await.map_err(client_error(console)) })?;
    let link = dashboard_link(&client.node().to_string(), &code);
    if arguments.node.json {
        return print(&format!("{}\n", json!({ "url": link, "expires_in_s": expires_in_s })));
    }
    print(&format!("{link}\n"))?;
    console.message(&format!("The link works once, within {} minutes.", expires_in_s / 60));
    Ok(())
}
