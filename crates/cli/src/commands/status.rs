//! `isomer status`: shows the state of a node.

use std::fmt::Write as _;

use isomer_api::NodeStatus;
use isomer_console::{CliError, Console, print};
use isomer_display::{count, escaped};

use crate::remote::node::{NodeFlags, client_error};
use crate::remote::show::{list, size, time_span};

/// Show the state of a node: its apps and its use of resources.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let (address, status) = arguments.node.with_client(console, async |client| {
        Ok((client.node().to_string(), client.status().await.map_err(client_error(console))?))
    })?;
    if arguments.node.json {
        let value = serde_json::to_value(&status).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    let NodeStatus { version, pid, listen, uptime_s, tenants, apps, apps_loaded, apps_loaded_max, .. } = &status;
    let NodeStatus { instances, resident_bytes, requests, loads, drops, .. } = &status;
    let NodeStatus { connections, connections_evicted: evicted, connections_refused: refused, .. } = &status;
    let shape = status.shape.as_ref().map(|shape| ("shape", escaped(shape)));
    let lines = [
        ("node", format!("{address}, isomer {}, process {pid}", escaped(version))),
        ("listens at", list(listen.iter().map(|address| escaped(address)))),
        ("runs for", time_span(*uptime_s)),
        ("tenants", tenants.to_string()),
        ("apps", format!("{apps}, {apps_loaded} loaded (at most {apps_loaded_max})")),
        ("loads", format!("{loads} loaded from disk, {drops} evicted")),
        ("instances", instances.to_string()),
        ("memory", size(*resident_bytes)),
        ("requests", requests.to_string()),
        ("clients", format!("{}, {evicted} closed to make room, {refused} refused", count(*connections, "connection"))),
    ];
    let mut out = String::new();
    for (what, how) in lines.into_iter().chain(shape) {
        let _ = writeln!(out, "{what:<11}{how}");
    }
    print(&out)
}
