//! `isomer apps`: lists the apps of a node.

use isomer_api::{AppInfo, AppState};
use isomer_console::{CliError, Console, print};
use isomer_display::escaped;
use isomer_ids::TenantName;

use crate::remote::node::{NodeFlags, client_error};
use crate::remote::show::{list, minute, table, tenant_flag};

/// List the apps of a node.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show only the apps of this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let apps = arguments.node.with_client(console, async |client| {
        client.apps(arguments.tenant.as_ref()).await.map_err(client_error(console))
    })?;
    if arguments.node.json {
        let value = serde_json::to_value(&apps).expect("a response is plain data");
        return print(&format!("{value:#}\n"));
    }
    if apps.is_empty() {
        let of = arguments.tenant.as_ref().map(tenant_flag).unwrap_or_default();
        console.message(&format!("no apps; deploy one: isomer deploy APP{of}"));
        return Ok(());
    }
    let row = |app: &AppInfo| {
        [
            app.tenant.to_string(),
            app.name.to_string(),
            state(app.state).to_owned(),
            escaped(&app.version),
            shown_shape(app.shape.as_deref()),
            app.revision.short().to_owned(),
            minute(app.deployed_at),
            list(&app.hosts),
        ]
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    print(&table(["TENANT", "APP", "STATE", "VERSION", "SHAPE", "REVISION", "DEPLOYED (UTC)", "HOSTS"], &rows))?;
    for AppInfo { tenant, name, failure, .. } in &apps {
        if let Some(failure) = failure {
            let of = tenant_flag(tenant);
            console.message(&format!(
                "{name} of {tenant} cannot be loaded and responds with 500: {}; for details: isomer logs {name}{of}",
                escaped(failure)
            ));
        }
    }
    Ok(())
}

/// Formats the shape of a revision. The shape is absent if an earlier version of Isomer deployed the revision.
pub(crate) fn shown_shape(shape: Option<&str>) -> String {
    shape.map_or_else(|| "–".to_owned(), escaped)
}

pub(crate) fn state(state: AppState) -> &'static str {
    match state {
        AppState::Idle => "idle",
        AppState::Loaded => "loaded",
        AppState::Stopped => "stopped",
        AppState::Failed => "failed",
    }
}
