//! `isomer deploy`: gives an app to a node, which serves it from then on.

use std::path::PathBuf;
use std::time::Duration;

use isomer_admin::{Client, ClientError};
use isomer_api::{ApiProblem, DeployMessage, DeployReport, ProblemKind, StoreChange, TenantChange};
use isomer_console::{CommandError, Console, print};
use isomer_display::{elapsed, escaped};
use isomer_ids::{AppName, HostPattern, TenantName};
use isomer_manifest::MONOLITH;
use isomer_project::{AppDir, read_components, shown};

use crate::remote::node::{NodeFlags, is_missing, refused};
use crate::remote::release::Packed;
use crate::remote::show::{list, minute, of_tenant};
use crate::remote::upload::upload;
use crate::value_flags::ValueFlags;

/// Build an app and deploy it to a node: only what the node lacks is uploaded, and it goes live after its health check has passed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or one inside it), its isomer.toml, or a component that answers HTTP.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The tenant that it belongs to. Others than `default` are made by `isomer tenant set`.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    tenant: TenantName,
    /// A host name to serve it under: `shop.example`, `*.shop.example`, or `*` for those that no other app has; may be repeated [default: those that it has].
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostPattern>,
    /// The app's shape. A node runs all its groups in one process.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// The app's name on the node [default: the manifest's].
    #[arg(long = "as", value_name = "NAME")]
    name: Option<AppName>,
    /// A message for `isomer revisions`: why it was deployed, or which commit it is.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
    #[command(flatten)]
    values: ValueFlags,
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CommandError> {
    let app = AppDir::open_with(&arguments.path, &arguments.values.sources())?;
    app.print_warnings(console);
    for (key, file) in &app.values.from_variables {
        console.message(&format!("config {key} has the value of {}", shown(file)));
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => app.app.name.parse().map_err(|error: isomer_ids::InvalidText| {
            CommandError::usage(error.to_string(), "give it another one for the node: --as NAME")
        })?,
    };
    let components = read_components(&app.build(console)?)?;
    // Report errors of the plan here, where the manifest is.
    app.plan(&components, &arguments.shape)?;
    let hosts = (!arguments.hosts.is_empty()).then(|| arguments.hosts.clone());
    let mut packed = Packed::new(&app, components, &arguments.shape, hosts)?;
    packed.release.message.clone_from(&arguments.message);
    let tenant = &arguments.tenant;
    let deployed = arguments.node.ask(console, async |client| {
        check_tenant(&client, tenant, console).await?;
        upload(&client, &packed.release, &packed.bytes, console).await?;
        let progress = console.progress();
        progress.step(format!("deploying {name}"));
        client.deploy(tenant, &name, &packed.release).await.map_err(refused(console))
    })?;
    say(&deployed, tenant, &name, arguments.node.json, console)
}

/// Makes the default tenant if need be. Others are made by who decides what they may use.
async fn check_tenant(client: &Client, tenant: &TenantName, console: &Console) -> Result<(), CommandError> {
    match client.tenant(tenant).await {
        Ok(_) => Ok(()),
        Err(error) if !is_missing(&error) => Err(refused(console)(error)),
        Err(_) if tenant.as_str() == TenantName::DEFAULT => {
            client.set_tenant(tenant, &TenantChange::default()).await.map(drop).map_err(refused(console))
        }
        Err(_) => {
            let problem = ApiProblem::new(ProblemKind::NotFound, format!("there is no tenant `{tenant}`"));
            let hint = format!("make it, with the quotas of every new tenant: isomer tenant set {tenant}");
            Err(refused(console)(ClientError::Problem(problem.hint(hint))))
        }
    }
}

/// Says what serves now, for `deploy`, `rollback` and `swap`.
pub(crate) fn say(
    deployed: &DeployReport,
    tenant: &TenantName,
    name: &AppName,
    json: bool,
    console: &Console,
) -> Result<(), CommandError> {
    for warning in &deployed.warnings {
        console.message(&warning.lines().map(|line| escaped(line) + "\n").collect::<String>());
    }
    if json {
        let mut value = serde_json::to_value(deployed).expect("an answer is plain data");
        value["tenant"] = tenant.as_str().into();
        value["app"] = name.as_str().into();
        return print(&format!("{value:#}\n"));
    }
    let DeployReport { revision, previous, hosts, compiled, took_ms, stores, .. } = deployed;
    let whose = if tenant.as_str() == TenantName::DEFAULT { String::new() } else { format!(" of {tenant}") };
    let under = if hosts.is_empty() { "no host name".to_owned() } else { list(hosts) };
    let before = match previous {
        Some(previous) if previous == revision => ", as before".to_owned(),
        Some(previous) => format!(", in place of {}", previous.short()),
        None => String::new(),
    };
    let how = if *compiled { "compiled, " } else { "" };
    console.message(&format!(
        "revision {} of {name}{whose} serves under {under}{before}  ({how}{})",
        revision.short(),
        elapsed(Duration::from_millis(*took_ms))
    ));
    if hosts.is_empty() {
        console.message("no request reaches it: give it a host name with --host HOST");
    }
    let revisions = format!("isomer revisions {name}{}", of_tenant(tenant));
    for store in stores {
        say_store(store, &revisions, console);
    }
    Ok(())
}

/// Says what happened to a store, and what of it can be undone; `revisions` is the command that shows that.
fn say_store(change: &StoreChange, revisions: &str, console: &Console) {
    let name = escaped(&change.store);
    let files = |files: &[String]| list(files.iter().map(|file| escaped(file)));
    let kept = format!("; a snapshot of before is kept: {revisions}");
    let saved = if change.snapshot { kept.as_str() } else { "" };
    if let Some(at) = change.restored_to {
        console.message(&format!("store {name} is as it was at {} UTC{saved}", minute(at)));
    }
    if !change.migrated.is_empty() {
        let saved = if change.restored_to.is_none() { saved } else { "" };
        console.message(&format!("store {name} was migrated by {}{saved}", files(&change.migrated)));
    }
    if !change.newer.is_empty() {
        let newer = files(&change.newer);
        console.message(&format!("store {name} stays as it is: its schema is newer than this revision's ({newer})"));
    }
}
