//! One group of a shape on this machine. The other groups run on other machines, whose addresses are in a node file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use isomer_apps::Package;
use isomer_apps::member::{Member, MemberOptions, TlsFiles};
use isomer_apps::membership;
use isomer_capabilities::secrets::SecretValues;
use isomer_console::{CliError, Console};
use isomer_diagnostics::{Diagnostic, SourceFile};
use isomer_front::Limits;
use isomer_manifest::{LinkAddress, NodeFile, Spanned, parse_node_file};
use isomer_plan::Plan;
use isomer_project::{AppDir, shown};
use isomer_runtime::code::{CodeCache, CodeSource};

use crate::admin_endpoint::AdminEndpoint;
use crate::context::{ServeContext, ServeOptions, describe, report_cut_off};
use crate::network;
use crate::resources::{listen, open_data, open_traces};
use crate::revision_source::origin_of;
use crate::served_traces::ServedTraces;
use crate::start_error::StartAttempt;
use crate::stop_signals::StopSignals;

/// A parsed node file, and the folder that contains it.
struct NodeConfig {
    source: SourceFile,
    dir: PathBuf,
    file: NodeFile,
}

/// Builds the app and serves `group` until SIGTERM or SIGINT arrives. `config` is the path of the node file.
///
/// # Errors
/// If the node file is not valid, or if the group cannot be built or started.
pub async fn run_group(
    app: &AppDir,
    group: &str,
    config: &Path,
    options: &ServeOptions,
    console: Console,
    began: Instant,
) -> Result<(), CliError> {
    let config = read(config)?;
    // If the shape or the group does not exist, planning reports this error later.
    let members = app.app.shapes.get(&options.shape).and_then(|shape| shape.groups.get(group));
    if let Some(members) = members {
        let needs = |secret: &str| {
            members
                .iter()
                .filter_map(|name| app.app.components.get(&name.value))
                .any(|component| component.grants.secrets.iter().any(|granted| granted.value == secret))
        };
        if let Some(missing) = app.missing_secrets(needs) {
            return Err(CliError::findings(missing.findings, &app.source));
        }
    }
    let components = app.components(&console)?;
    let plan = app.plan(&components, &options.shape)?;
    membership::check_group(&plan, group).map_err(|error| CliError::Findings(vec![*error]))?;
    membership::check(&app.app, &plan, group, &config.file)
        .map_err(|found| CliError::findings(found, &config.source))?;
    let tls = tls_files(&config)?;
    let mut context = ServeContext::new(options, console)?;
    context.export_telemetry(&app.app)?;
    let (front, url) = match has_routes(&plan, group) {
        true => {
            listen(options.listen, &options.data_dir(app)).await.map(|(listener, url)| (Some(listener), Some(url)))?
        }
        false => (None, None),
    };
    let data = open_data(&options.data_dir(app))?;
    let address = front.as_ref().and_then(|front| front.local_addr().ok()).map(|address| address.to_string());
    let traces = open_traces(&context, &data)?;
    let tracer = traces.as_ref().map(ServedTraces::tracer).unwrap_or_default();
    let admin = AdminEndpoint::open(options, &context, &data, &app.app.name, address, traces.clone()).await?;
    let cache = CodeSource::from(CodeCache::open(&data.cache())?);
    let network = network::with_authority(context.network.clone(), &config.file.node, &config.dir, &config.source)?;
    let member_options = MemberOptions {
        shape: options.shape.clone(),
        group: group.to_owned(),
        listen: config.file.listen.as_ref().map(|at| resolve(&config.dir, &at.value)),
        peers: peers(&config),
        tls,
        front,
        limits: Limits::default(),
        network,
        secrets: SecretValues::FromManifest,
        environment: app.values.environment.clone(),
        tracer,
        metrics: context.metrics.clone(),
        deterministic: context.is_deterministic(),
        origin: origin_of(app),
        grace: context.grace,
    };
    let made = {
        let progress = console.progress();
        let report = |step: isomer_apps::Progress<'_>| progress.step(describe(step));
        Member::make(&app.app, &app.dir, &components, member_options, &data, &cache, &context.log, &report).await
    };
    let attempt = StartAttempt { app: &app.app, dir: &app.dir, source: Some(&app.source), data: &data };
    let member = made.map_err(|error| attempt.member_failed(error))?;
    context.print_warnings(&plan, &app.source);
    if let Some(admin) = &admin {
        admin.app().set_manifest(&app.app, None);
        admin.app().set_revision(&plan, Package::digest_of(&app.app, &plan, &components));
    }
    let signals = StopSignals::listen()?;
    context.report_group_ready(&plan, group, url.as_deref(), member.link_address().as_deref(), began)?;
    let cut_off = signals.stop(|stop| member.serve(stop)).await?;
    traces.iter().for_each(ServedTraces::flush);
    context.end_export().await;
    report_cut_off(&context.log, cut_off);
    Ok(())
}

fn read(path: &Path) -> Result<NodeConfig, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read the node file `{}`", path.display()));
        CliError::Usage(error)
    })?;
    let path = path.canonicalize().with_context(|| format!("cannot resolve `{}`", path.display()))?;
    let source = SourceFile::new(shown(&path), text);
    let file = parse_node_file(&source).map_err(CliError::Findings)?;
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(NodeConfig { source, dir, file })
}

fn has_routes(plan: &Plan, group: &str) -> bool {
    plan.processes().get(group).is_some_and(|groups| groups.iter().any(|it| !it.handlers.is_empty()))
}

/// Returns `address`. If it is the relative path of a socket, resolves the path against `dir`, the node file's folder.
fn resolve(dir: &Path, address: &LinkAddress) -> LinkAddress {
    match address {
        LinkAddress::Unix(path) => LinkAddress::Unix(dir.join(path)),
        tcp @ LinkAddress::Tcp { .. } => tcp.clone(),
    }
}

fn peers(config: &NodeConfig) -> BTreeMap<String, Vec<LinkAddress>> {
    let addresses = |at: &Spanned<Vec<LinkAddress>>| at.value.iter().map(|it| resolve(&config.dir, it)).collect();
    config.file.peers.iter().map(|(group, at)| (group.value.clone(), addresses(at))).collect()
}

/// Returns the paths of the TLS files that the node file names, after checking that each file can be read.
fn tls_files(config: &NodeConfig) -> Result<Option<TlsFiles>, CliError> {
    let Some(tls) = &config.file.tls else { return Ok(None) };
    let mut found = vec![];
    let mut checked = |what: &str, written: &Spanned<PathBuf>| {
        let path = config.dir.join(&written.value);
        if let Err(error) = std::fs::File::open(&path) {
            found.push(
                Diagnostic::error(format!("cannot read the {what} `{}`: {error}", path.display()))
                    .code("unreadable-file")
                    .at(written.span, "")
                    .hint("check the path and its permissions; a relative path is resolved against the node file's folder"),
            );
        }
        path
    };
    let files = TlsFiles {
        certificate: checked("certificate", &tls.certificate),
        key: checked("key", &tls.key),
        authority: checked("authority's certificate", &tls.authority),
    };
    if found.is_empty() { Ok(Some(files)) } else { Err(CliError::findings(found, &config.source)) }
}
