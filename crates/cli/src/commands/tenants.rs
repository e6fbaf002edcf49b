//! `isomer tenants`: lists the tenants of a node.

use isomer_api::TenantInfo;
use isomer_console::{CliError, Console, print};

use crate::remote::node::{NodeFlags, client_error};
use crate::remote::show::{list, size, size_quota, table};

/// List the tenants of a node, with their quotas and their use of resources.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let tenants =
        arguments.node.with_client(console, async |client| client.tenants().await.map_err(client_error(console)))?;
    if arguments.node.json {
        let value = serde_json::to_value(&tenants).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    if tenants.is_empty() {
        console.message("no tenants; create one: isomer tenant set NAME");
        return Ok(());
    }
    let row = |tenant: &TenantInfo| {
        let TenantInfo { name, quotas, usage, apps, hosts, .. } = tenant;
        [
            name.to_string(),
            apps.len().to_string(),
            format!("{} of {}", size(usage.memory_bytes), size_quota(quotas.memory_bytes)),
            format!("{} of {}", size(usage.storage_bytes), size_quota(quotas.storage_bytes)),
            usage.requests.to_string(),
            usage.refused.values().sum::<u64>().to_string(),
            list(hosts),
        ]
    };
    let rows: Vec<_> = tenants.iter().map(row).collect();
    print(&table(["TENANT", "APPS", "MEMORY", "STORAGE", "REQUESTS", "LIMITED", "OWN HOSTS"], &rows))
}
