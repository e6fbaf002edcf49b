//! `isomer node`: runs a node, which serves the apps of many tenants.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::FutureExt as _;
use isomer_admin::{
    AdminAddress, AdminLimits, AdminServer, AdminService, AuditLog, ListenError, Token, URL_FILE, write_url,
};
use isomer_console::{CliError, Console, print};
use isomer_diagnostics::Hinted;
use isomer_display::elapsed;
use isomer_node::compiler::{ChildLimits, CompilerOptions};
use isomer_node::listeners::{ListenerError, OpenListeners};
use isomer_node::{Node, NodeError, NodeOptions};
use isomer_observe::{Format, Log};
use isomer_serve::{StopSignals, data_dir_error, listen_error, report_cut_off, service_manager, start_export};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::hosting::hangups::{HangupHandler, log_certificates};
use crate::hosting::inherited::Inherited;
use crate::hosting::settings::{Config, NodeProcessSettings, SettingFlags, sampling_limits, signature_policy};
use isomer_flags::{LogFlag, TelemetryFlag};

/// Run a node: a server for the apps of many tenants. Apps are deployed to the node while it runs, and the node serves
/// them again after a restart.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data directory [default: `isomer/node` in `$XDG_DATA_HOME`, or in `~/.local/share` if the variable is
    /// unset].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address at which apps are served: `0.0.0.0:80` for all networks, `[::1]:80`, `localhost:80`, or only a port
    /// (on 127.0.0.1). May be repeated. With port 0, the system chooses a free port [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR", value_parser = isomer_flags::listen)]
    listen: Vec<SocketAddr>,
    /// The address of the admin API: a loopback address, only a port (on 127.0.0.1), or `unix:PATH` [default:
    /// 127.0.0.1:7171].
    #[arg(long, value_name = "ADDR", value_parser = isomer_flags::admin)]
    admin: Option<AdminAddress>,
    /// The node file, which sets certificates, limits, and values for flags that are absent.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one line of JSON on standard output when the node is ready, and write the log in JSON.
    #[arg(long)]
    json: bool,
    /// Log every request, and keep an access log for each app (`isomer logs APP --access`).
    #[arg(long)]
    access_log: bool,
    #[command(flatten)]
    log: LogFlag,
    #[command(flatten)]
    telemetry: TelemetryFlag,
    /// The maximum time that requests and deployments in progress may take to finish after the signal to stop, in
    /// seconds [default: 30].
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    // This call changes the environment, so it must come before any thread is started.
    let inherited = Inherited::take()?;
    // The node computes its maximum number of loaded apps from the limit of open files, so the limit is raised first.
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            // The result is ignored: if the system refuses this setting, requests only wait longer while guests use all
            // processors.
            let _ = isomer_runtime::prefer_latency();
        })
        .build()
        .context("cannot start the executor")?;
    let done = runtime.block_on(serve(arguments, inherited, *console, Instant::now()));
    // The process does not wait for blocking tasks, because it must end immediately after a second signal.
    runtime.shutdown_background();
    done
}

/// Raises the soft limit of open files to the hard limit, because every loaded app and every connection needs a
/// descriptor. The soft limit is often 1,024 for programs that use `select`, which this program does not. If the limit
/// cannot be raised, fewer apps stay in memory.
fn raise_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

async fn serve(arguments: &Arguments, inherited: Inherited, console: Console, began: Instant) -> Result<(), CliError> {
    let config = Config::read(arguments.config.as_deref())?;
    let sampling = arguments.telemetry.limits(sampling_limits(&config.file));
    let flags = SettingFlags {
        data: arguments.data.as_deref(),
        listen: &arguments.listen,
        admin: arguments.admin.as_ref(),
        grace: arguments.grace.map(Duration::from_secs),
        records_telemetry: sampling.is_some(),
    };
    let settings = NodeProcessSettings::new(flags, &config, &console)?;
    let NodeProcessSettings { data, mut listening, admin, grace, tenancy } = settings;
    listening.inherit(inherited.front);
    let format = if arguments.json { Format::Json } else { Format::Text { colour: console.colour() } };
    let log = Log::start(std::io::stderr(), format, arguments.access_log).context("cannot start the log")?;
    let log = log.with_levels(arguments.log.levels()?);
    isomer_observe::listen_to_events(log.clone());
    let export = start_export(config.collector().as_ref(), &console)?;
    let options = NodeOptions {
        data,
        log: log.clone(),
        compiler: CompilerOptions::new(ChildLimits::default()),
        tenancy,
        sampling,
        export: export.clone(),
        signatures: signature_policy(&config)?,
        watch: None,
    };
    let node = tokio::task::block_in_place(|| Node::open(options)).map_err(cannot_open)?;
    let remote = config.file.admin_remote;
    let admins = match inherited.admin {
        Some(socket) => AdminServer::from_socket(socket, remote),
        None => AdminServer::listen(&admin, remote).await,
    };
    let admins = admins.map_err(cannot_listen_to_admins)?;
    let token = Token::of_node(node.dir()).map_err(|error| {
        let hint = error.hint();
        CliError::hinted(error, hint)
    })?;
    let audit = AuditLog::open(node.dir())?;
    let speaks_tls = listening.speaks_tls();
    let OpenListeners { front, certificates } =
        listening.open(node.resolver(), log.clone()).await.map_err(cannot_listen_to_clients)?;
    let addresses = front.addresses();
    node.set_front(addresses.clone(), front.connections());
    write_url(node.dir(), &admins.address().url())
        .with_context(|| format!("cannot write `{}`", node.dir().join(URL_FILE).display()))?;
    if let Some((_, loaded)) = &certificates {
        log_certificates(&log, loaded);
    }
    let signals = StopSignals::listen()?;
    let hangups = HangupHandler {
        certificates: certificates.map(|(certificates, _)| certificates),
        audit: audit.clone(),
        config: arguments.config.clone().map(|path| (path, config.file.clone())),
        log: log.clone(),
    };
    let hangups = tokio::spawn(hangups.follow(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?));
    let doors: Vec<_> = addresses.into_iter().zip(speaks_tls).collect();
    report_ready(arguments, &console, &doors, admins.address(), node.dir(), began)?;
    tokio::spawn(check_compilers(node.clone(), log.clone()));
    let service: AdminService = AdminService {
        admin: node.clone(),
        token,
        audit: Some(audit),
        hosts: config.file.admin_hosts.clone(),
        limits: AdminLimits { grace, ..AdminLimits::default() },
    };
    let (cut_off, ()) = signals
        .stop(|stop| {
            let stop = stop.shared();
            futures::future::join(front.serve(stop.clone(), grace), admins.serve(service, stop))
        })
        .await?;
    hangups.abort();
    if let Some(export) = export {
        export.shutdown().await;
    }
    report_cut_off(&log, cut_off);
    Ok(())
}

/// Checks whether compiler processes can be started, and logs an error if not.
async fn check_compilers(node: Arc<Node>, log: Log) {
    if let Err(error) = node.confinement().await {
        log.error(format!("cannot start a compiler: {error}; `isomer doctor` shows details"));
    }
}

/// Reports to the user and to the service manager that the node is ready.
fn report_ready(
    arguments: &Arguments,
    console: &Console,
    listen: &[(SocketAddr, bool)],
    admin: &AdminAddress,
    data: &Path,
    began: Instant,
) -> Result<(), CliError> {
    let took = began.elapsed();
    service_manager::keep_alive();
    let url = |(address, tls): &(SocketAddr, bool)| format!("{}://{address}", if *tls { "https" } else { "http" });
    let urls: Vec<String> = listen.iter().map(url).collect();
    service_manager::ready(&format!("serving at {}", urls.join(" and ")));
    if arguments.json {
        let line = json!({
            "event": "ready",
            "url": urls.first(),
            "urls": urls,
            "admin": admin.url(),
            "data": data,
            "pid": std::process::id(),
            "took_ms": took.as_secs_f64() * 1e3,
        });
        return print(&format!("{line}\n"));
    }
    let (urls, admin, took) = (urls.join(" and "), admin.url(), elapsed(took));
    console.message(&format!("the node is listening at {urls}, its admin API at {admin}  ({took}; Ctrl-C stops it)"));
    Ok(())
}

fn cannot_open(error: NodeError) -> CliError {
    match error {
        NodeError::Dir(error) => data_dir_error(error),
        error => error.into(),
    }
}

fn cannot_listen_to_clients(error: ListenerError) -> CliError {
    match error {
        ListenerError::Front(error) => listen_error(error),
        ListenerError::Tls(error) => {
            let hint = error.hint();
            CliError::hinted(error, hint)
        }
        error => error.into(),
    }
}

fn cannot_listen_to_admins(error: ListenError) -> CliError {
    let hint = match &error {
        ListenError::Remote { .. } => {
            "listen on a loopback address or a Unix socket and go through a tunnel (ssh -L), or set `remote = true` in [admin] of the node file"
        }
        ListenError::InUse { .. } => {
            "stop the process that uses the address, or let the system choose a port: --admin 127.0.0.1:0"
        }
        ListenError::NoSocket { .. } => "remove that file, or name another path: --admin unix:PATH",
        ListenError::Io { .. } => return error.into(),
    };
    Hinted::new(error, hint).into()
}
