//! One group of a shape by itself, on a machine of its own: where the others are stands in a node file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use isomer_front::Limits;
use isomer_manifest::{Diagnostic, LinkAddress, NodeFile, SourceFile, Spanned, parse_node_file};
use isomer_node::member::{Member, MemberOptions, TlsFiles};
use isomer_node::membership;
use isomer_plan::Plan;
use isomer_runtime::code::CodeCache;

use crate::app_dir::{self, AppDir, shown};
use crate::console::Console;
use crate::fail::Fail;
use crate::not_started::Attempt;
use crate::outbound;
use crate::serving::{Premises, ServeFlags, describe, listen, open_data};
use crate::stop_signals::StopSignals;

/// A node file and where it lies.
struct Config {
    source: SourceFile,
    dir: PathBuf,
    file: NodeFile,
}

/// Builds the app and runs `group` until it is told to stop.
pub(crate) async fn run(
    app: &AppDir,
    group: &str,
    config: &Path,
    flags: &ServeFlags,
    console: Console,
    began: Instant,
) -> Result<(), Fail> {
    let config = read(config)?;
    let components = app_dir::read(&app.build(&console)?)?;
    let plan = isomer_node::revision::plan(&app.app, &components, &flags.shape);
    let plan = plan.map_err(|error| Fail::revision(error, Some(&app.source)))?;
    membership::check_group(&plan, group).map_err(|error| Fail::Manifest(vec![*error]))?;
    membership::check(&app.app, &plan, group, &config.file).map_err(|found| Fail::manifest(found, &config.source))?;
    let tls = tls_files(&config)?;
    let premises = Premises::new(flags, console)?;
    let (front, url) = match has_routes(&plan, group) {
        true => listen(flags.listen).await.map(|(listener, url)| (Some(listener), Some(url)))?,
        false => (None, None),
    };
    let data = open_data(&flags.data.clone().unwrap_or_else(|| app.dir.join(".isomer")))?;
    let cache = CodeCache::open(&data.cache())?;
    let options = MemberOptions {
        shape: flags.shape.clone(),
        group: group.to_owned(),
        listen: config.file.listen.as_ref().map(|at| beside(&config.dir, &at.value)),
        peers: peers(&config),
        tls,
        front,
        limits: Limits::default(),
        network: outbound::with_authority(premises.network.clone(), &config.file.host, &config.dir, &config.source)?,
        environment: app.values.environment.clone(),
        given_clock_and_random: premises.given_clock_and_random,
        grace: premises.grace,
    };
    let made = {
        let progress = console.progress();
        let told = |step: isomer_node::Step<'_>| progress.step(describe(step));
        Member::make(&app.app, &app.dir, &components, options, &data, &cache, &premises.log, &told).await
    };
    let attempt = Attempt { app: &app.app, dir: &app.dir, source: Some(&app.source), data: &data };
    let member = made.map_err(|error| attempt.member_failed(error))?;
    premises.say_warnings(&plan, Some(&app.source));
    let signals = StopSignals::listen()?;
    premises.say_group_ready(&plan, group, url.as_deref(), member.link_address().as_deref(), began)?;
    let cut_off = signals.stop(|stop| member.serve(stop)).await?;
    premises.say_ended(cut_off);
    Ok(())
}

fn read(path: &Path) -> Result<Config, Fail> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read the node file `{}`", path.display()));
        Fail::Usage(error)
    })?;
    let path = path.canonicalize().with_context(|| format!("cannot resolve `{}`", path.display()))?;
    let source = SourceFile::new(shown(&path), text);
    let file = parse_node_file(&source).map_err(Fail::Manifest)?;
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Config { source, dir, file })
}

fn has_routes(plan: &Plan, group: &str) -> bool {
    plan.processes().get(group).is_some_and(|groups| groups.iter().any(|it| !it.handlers.is_empty()))
}

/// A socket's relative path starts at the node file.
fn beside(dir: &Path, address: &LinkAddress) -> LinkAddress {
    match address {
        LinkAddress::Unix(path) => LinkAddress::Unix(dir.join(path)),
        tcp @ LinkAddress::Tcp { .. } => tcp.clone(),
    }
}

fn peers(config: &Config) -> std::collections::BTreeMap<String, Vec<LinkAddress>> {
    let addresses = |at: &Spanned<Vec<LinkAddress>>| at.value.iter().map(|it| beside(&config.dir, it)).collect();
    config.file.peers.iter().map(|(group, at)| (group.value.clone(), addresses(at))).collect()
}

/// The certificates' files, each of which can be read.
fn tls_files(config: &Config) -> Result<Option<TlsFiles>, Fail> {
    let Some(tls) = &config.file.tls else { return Ok(None) };
    let mut found = vec![];
    let mut checked = |what: &str, written: &Spanned<PathBuf>| {
        let path = config.dir.join(&written.value);
        if let Err(error) = std::fs::File::open(&path) {
            found.push(
                Diagnostic::error(format!("cannot read the {what} `{}`: {error}", path.display()))
                    .code("unreadable-file")
                    .at(written.span, "")
                    .hint("check the path, which starts at the node file's folder, and who may read the file"),
            );
        }
        path
    };
    let files = TlsFiles {
        certificate: checked("certificate", &tls.certificate),
        key: checked("key", &tls.key),
        authority: checked("authority's certificate", &tls.authority),
    };
    if found.is_empty() { Ok(Some(files)) } else { Err(Fail::manifest(found, &config.source)) }
}
