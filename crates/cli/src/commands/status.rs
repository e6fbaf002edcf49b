//! `isomer status`: how a node is.

use std::fmt::Write as _;

use isomer_api::NodeStatus;
use isomer_console::{CommandError, Console, print};
use isomer_display::escaped;

use crate::remote::node::{NodeFlags, refused};
use crate::remote::show::{list, size, span};

/// Show the state of a node: what it serves and what it uses.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    let (address, status) = arguments.node.ask(console, async |client| {
        Ok((client.node().to_string(), client.status().await.map_err(refused(console))?))
    })?;
    if arguments.node.json {
        let value = serde_json::to_value(&status).expect("an answer is plain data");
        return print(&format!("{value:#}\n"));
    }
    let NodeStatus { version, pid, listen, uptime_s, tenants, apps, apps_loaded, apps_loaded_max, .. } = &status;
    let NodeStatus { instances, resident_bytes, requests, loads, drops, .. } = &status;
    let NodeStatus { connections, connections_evicted: evicted, connections_refused: refused, .. } = &status;
    let lines = [
        ("node", format!("{address}, isomer {}, process {pid}", escaped(version))),
        ("serves at", list(listen.iter().map(|address| escaped(address)))),
        ("runs for", span(*uptime_s)),
        ("tenants", tenants.to_string()),
        ("apps", format!("{apps}, {apps_loaded} of them in memory ({apps_loaded_max} at most)")),
        ("loads", format!("{loads} from disk, {drops} apps dropped from memory")),
        ("instances", instances.to_string()),
        ("memory", size(*resident_bytes)),
        ("requests", requests.to_string()),
        ("clients", format!("{connections} connections, {evicted} closed for others, {refused} refused")),
    ];
    let mut out = String::new();
    for (what, how) in lines {
        let _ = writeln!(out, "{what:<11}{how}");
    }
    print(&out)
}
