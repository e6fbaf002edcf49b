//! `isomer deploy`: builds an app and deploys it to a node.

use std::path::{Component as PathPart, Path, PathBuf};
use std::time::Duration;

use isomer_admin::{Client, ClientError};
use isomer_api::{ApiProblem, DeployMessage, DeployReport, ProblemKind, Release, StoreChange, TenantChange};
use isomer_console::{CliError, Console, print};
use isomer_display::{elapsed, escaped};
use isomer_ids::{AppName, HostPattern, TenantName};
use isomer_manifest::{App, MONOLITH, SecretSource};
use isomer_parcel::Contents;
use isomer_project::{AppDir, open_packed, pack_release, shown};

use crate::app_consent;
use crate::app_source::{AppSource, KeyFlag, ShippedApp};
use crate::remote::node::{NodeFlags, block_on, client_error, is_missing};
use crate::remote::registry::RegistryFlags;
use crate::remote::show::{list, minute, tenant_flag};
use crate::remote::upload::upload;
use crate::signing::{SignFlag, signature, signatures};
use isomer_flags::ValueFlags;

/// Build an app and deploy it to a node. Only files that the node does not have are uploaded. The app goes live after
/// its health check passes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, the file of an HTTP component, or an app that was
    /// built elsewhere: `oci://registry.example/team/shop:1.4.0`, or an archive (`shop.tar`).
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// The tenant that the app belongs to. The tenant `default` is created if necessary; other tenants are created with
    /// `isomer tenant set`.
    #[arg(long, value_name = "TENANT", default_value = TenantName::DEFAULT)]
    tenant: TenantName,
    /// A host name of the app: `shop.example`, `*.shop.example`, or `*` for all host names that no other app has. May
    /// be repeated [default: the app's current host names].
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostPattern>,
    /// The shape of the app. A node runs all groups of an app in one process.
    #[arg(long, default_value = MONOLITH)]
    shape: String,
    /// The app's name on the node [default: the name in the manifest].
    #[arg(long = "as", value_name = "NAME")]
    name: Option<AppName>,
    /// A message that `isomer revisions` shows, such as the reason or the commit.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<DeployMessage>,
    #[command(flatten)]
    values: ValueFlags,
    #[command(flatten)]
    trusted: KeyFlag,
    #[command(flatten)]
    sign: SignFlag,
    #[command(flatten)]
    registry: RegistryFlags,
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let key = arguments.sign.key(console)?;
    let (app, mut packed) = match AppSource::parse(&arguments.path)? {
        AppSource::Path(path) => {
            arguments.trusted.refuse_for_sources()?;
            pack(&path, arguments, console)?
        }
        AppSource::Registry(reference) => {
            let pulled = block_on(ShippedApp::pull_to_deploy(&reference, &arguments.registry, console))?;
            open_shipped(pulled, arguments, console)?
        }
        AppSource::Archive(path) => open_shipped(ShippedApp::read(&path)?, arguments, console)?,
    };
    for (key, file) in &app.values.from_variables {
        console.message(&format!("config value {key} comes from {}", shown(file)));
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => app.app.name.parse().map_err(|error: isomer_ids::InvalidText| {
            CliError::usage(error.to_string(), "choose another name for the node: --as NAME")
        })?,
    };
    packed.release.hosts = (!arguments.hosts.is_empty()).then(|| arguments.hosts.clone());
    packed.release.message.clone_from(&arguments.message);
    if let Some(key) = &key {
        let signature = signature(&packed, key)?;
        packed.release.signatures.push(signature);
    }
    let tenant = &arguments.tenant;
    let deployed = arguments.node.with_client(console, async |client| {
        let secrets = check_tenant(&client, tenant, console).await?;
        check_secrets(&app.app, &packed.release, tenant, &secrets)
            .map_err(|problem| client_error(console)(ClientError::Problem(problem)))?;
        upload(&client, &packed.release, &packed.parts, console).await?;
        let progress = console.progress();
        progress.step(format!("deploying {name}"));
        client.deploy(tenant, &name, &packed.release).await.map_err(client_error(console))
    })?;
    report_deployed(&deployed, tenant, &name, arguments.node.json, console)
}

/// Builds and packs an app on this machine.
fn pack(path: &Path, arguments: &Arguments, console: &Console) -> Result<(AppDir, Contents), CliError> {
    let app = AppDir::open_with(path, &arguments.values.sources())?;
    app.print_warnings(console);
    let components = app.components(console)?;
    // The app is planned before anything is uploaded, so that errors show lines of the manifest file.
    app.plan(&components, &arguments.shape)?;
    let packed = pack_release(&app, components, &arguments.shape, None)?;
    Ok((app, packed))
}

/// Prepares an app that was built elsewhere. Its files are not written to disk, because only the node needs them.
fn open_shipped(shipped: ShippedApp, arguments: &Arguments, console: &Console) -> Result<(AppDir, Contents), CliError> {
    shipped.check(&arguments.trusted.keys()?)?;
    let mut packed = shipped.contents;
    packed.release.signatures = signatures(&shipped.referrers);
    let app = open_packed(&packed, &shipped.name, &arguments.values.sources())?;
    app.print_warnings(console);
    app.plan(&app.components(console)?, &arguments.shape)?;
    // The node keeps the app within its tenant. What it reaches there is shown, because its manifest is by others.
    for line in app_consent::requests(&app.app) {
        console.message(&line);
    }
    packed.release.manifest = app.manifest()?.text().to_owned();
    packed.release.shape.clone_from(&arguments.shape);
    Ok((app, packed))
}

/// Checks that the tenant exists, and returns the names of its secrets. Only the default tenant is created if it does not
/// exist. All other tenants must be created by the user, who sets their quotas.
async fn check_tenant(client: &Client, tenant: &TenantName, console: &Console) -> Result<Vec<String>, CliError> {
    match client.tenant(tenant).await {
        Ok(info) => Ok(info.secrets),
        Err(error) if !is_missing(&error) => Err(client_error(console)(error)),
        Err(_) if tenant.as_str() == TenantName::DEFAULT => {
            let created = client.set_tenant(tenant, &TenantChange::default()).await;
            created.map(|info| info.secrets).map_err(client_error(console))
        }
        Err(_) => {
            let problem = ApiProblem::new(ProblemKind::NotFound, format!("there is no tenant `{tenant}`"));
            let hint = format!("create the tenant with the default quotas: isomer tenant set {tenant}");
            Err(client_error(console)(ClientError::Problem(problem.hint(hint))))
        }
    }
}

/// Checks that the tenant has the secrets that the app needs, before anything is uploaded. The node checks this again.
fn check_secrets(app: &App, release: &Release, tenant: &TenantName, given: &[String]) -> Result<(), ApiProblem> {
    // The files of some secrets are parts of the release. Paths are compared without `./` at the start.
    let is_sent = |path: &Path| {
        let path: PathBuf = path.components().filter(|part| *part != PathPart::CurDir).collect();
        release.files.keys().any(|sent| Path::new(sent.as_str()) == path)
    };
    let is_missing = |name: &str, source: &SecretSource| match source {
        SecretSource::File(path) if is_sent(path) => false,
        SecretSource::File(_) | SecretSource::Env(_) => !given.iter().any(|given| given == name),
    };
    let missing = app.secrets.iter().filter(|(name, source)| is_missing(name, source)).map(|(name, _)| name);
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|name| format!("`{name}`")).collect();
    let title = format!("tenant `{tenant}` lacks secrets that the app needs: {}", names.join(", "));
    let hints = missing.iter().map(|name| format!("isomer secrets set {name} --tenant {tenant}"));
    Err(hints.fold(ApiProblem::new(ProblemKind::Refused, title), ApiProblem::hint))
}

/// Reports which revision the node serves now. Used by `deploy`, `rollback`, `swap` and `reshape`.
pub(crate) fn report_deployed(
    deployed: &DeployReport,
    tenant: &TenantName,
    name: &AppName,
    json: bool,
    console: &Console,
) -> Result<(), CliError> {
    for warning in &deployed.warnings {
        console.message(&warning.lines().map(|line| escaped(line) + "\n").collect::<String>());
    }
    if json {
        let mut value = serde_json::to_value(deployed).expect("a response is plain data");
        value["tenant"] = tenant.as_str().into();
        value["app"] = name.as_str().into();
        return print(&format!("{value:#}\n"));
    }
    let DeployReport { revision, previous, shape, hosts, compiled, took_ms, stores, .. } = deployed;
    let whose = if tenant.as_str() == TenantName::DEFAULT { String::new() } else { format!(" of {tenant}") };
    let under = if hosts.is_empty() { "no host name".to_owned() } else { list(hosts) };
    let before = match previous {
        Some(previous) if previous == revision => ", as before".to_owned(),
        Some(previous) => format!(", replacing {}", previous.short()),
        None => String::new(),
    };
    // The shape `monolith` is the usual one, and is not mentioned.
    let shape = shape.as_deref().filter(|shape| *shape != MONOLITH);
    let shape = shape.map(|shape| format!(" in shape {}", escaped(shape))).unwrap_or_default();
    let how = if *compiled { "compiled, " } else { "" };
    console.message(&format!(
        "revision {} of {name}{whose} serves{shape} under {under}{before}  ({how}{})",
        revision.short(),
        elapsed(Duration::from_millis(*took_ms))
    ));
    if hosts.is_empty() {
        console.message("the app has no host name, so no request reaches it; add a host name: --host HOST");
    }
    let revisions = format!("isomer revisions {name}{}", tenant_flag(tenant));
    for store in stores {
        report_store(store, &revisions, console);
    }
    Ok(())
}

/// Reports how a store was changed, and whether the change can be undone. `revisions` is the command that lists the
/// snapshots.
fn report_store(change: &StoreChange, revisions: &str, console: &Console) {
    let name = escaped(&change.store);
    let files = |files: &[String]| list(files.iter().map(|file| escaped(file)));
    let kept = format!("; a snapshot of the previous state is kept: {revisions}");
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
