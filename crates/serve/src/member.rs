//! A member: a process that a supervisor has started to run one group of a shape.
//!
//! The member prepares, starts, and accepts connections when the supervisor orders it to. It serves its group until the
//! supervisor stops it, and exits when the control channel closes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use isomer_apps::member::{MemberOptions, PreparedMember};
use isomer_apps::{GateGoal, GateStop};
use isomer_capabilities::DataDir;
use isomer_capabilities::secrets::{Secret, SecretValues};
use isomer_console::CliError;
use isomer_diagnostics::{Renderer, SourceFile};
use isomer_front::Limits;
use isomer_ids::ComponentName;
use isomer_manifest::{App, LinkAddress};
use isomer_observe::{Format, Log};
use isomer_runtime::code::{CodeArchive, CodeCache, CodeSource};
use isomer_seam::Components;
use isomer_supervisor::{ControlChannel, MemberMessage, MemberOrders};
use isomer_telemetry::Tracer;
use isomer_telemetry::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::context::report_cut_off;
use crate::health::check_health;
use crate::member_groups::WITHOUT_MIGRATIONS;
use crate::member_metrics::MetricsTask;
use crate::member_task::MemberTask;
use crate::network;
use crate::served_traces::trace_order;
use crate::start_error::StartAttempt;

/// Runs this process as a member until the supervisor stops it. Sends errors to the supervisor. `shipped` is the code of
/// the app with which this program was shipped.
///
/// # Errors
/// If this process was not started by a supervisor, or if the group cannot be served.
pub fn run_member(shipped: Option<CodeArchive>) -> Result<(), CliError> {
    let (control, task, listener) = ControlChannel::open(|task: &MemberTask| task.private_dir.clone())
        .context("cannot run as a member: only `isomer run` starts processes with `--member`")?;
    let renderer = Renderer::new(task.colour);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    runtime.block_on(serve(&control, &task, shipped, listener)).map_err(|error| {
        let (text, code) = error.render(&renderer);
        control.send(&MemberMessage::Failed { text, code });
        CliError::ExitCode(code)
    })
}

async fn serve(
    control: &ControlChannel,
    task: &MemberTask,
    shipped: Option<CodeArchive>,
    listener: Option<TcpListener>,
) -> Result<(), CliError> {
    // A terminal or a service manager sends these signals to all processes. Only the supervisor reacts to them, so the
    // member replaces their default handlers with ones that do nothing.
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        drop(signal(kind).context("cannot install the handlers of SIGTERM and SIGINT")?);
    }
    let log = Log::start(std::io::stdout(), Format::Json, task.access_log).context("cannot start the log")?;
    let log = log.with_levels(task.log.parse().context("cannot read the supervisor's log levels")?);
    isomer_observe::listen_to_events(log.clone());
    let source = SourceFile::new(task.manifest.0.as_str(), task.manifest.1.as_str());
    let app = isomer_manifest::parse(&source).map_err(CliError::Findings)?.app;
    let components = read_components(task)?;
    let data = DataDir::open_as_member(&task.data)?;
    let code: CodeSource = match (&task.cache, shipped) {
        (Some(folder), _) => CodeCache::open(folder)?.into(),
        (None, Some(archive)) => archive.into(),
        (None, None) => return Err(CliError::failed("this program contains no app", "start the app again")),
    };
    let metrics = if task.sampling.is_some() { Metrics::default() } else { Metrics::disabled() };
    let tracer = tracer(task, &log);
    let has_front_door = listener.is_some();
    let attempt = StartAttempt { app: &app, dir: &task.app_dir, source: Some(&source), data: &data };
    let duplicate = listener.as_ref().map(TcpListener::try_clone).transpose().context("cannot use the front door")?;
    let prepare = |app: &App, listener| {
        let options = options(task, listener, (tracer.clone(), metrics.clone()));
        PreparedMember::new(app, &components, options, &code, &log, &|_| {})
    };
    let mut prepared = prepare(&app, listener).map_err(|error| attempt.member_failed(error))?;
    control.send(&MemberMessage::Prepared);
    let mut orders = control.orders();
    let ordered = *orders.wait_for(|orders| orders.start || orders.stop).await.context("the supervisor has exited")?;
    if !ordered.start {
        return Ok(());
    }
    let started = without_migrations(&app, &task.private_dir)?;
    match &started {
        // The package contains the stores' settings. Its code is already compiled.
        Some(app) => prepared = prepare(app, duplicate).map_err(|error| attempt.member_failed(error))?,
        // The kernel refuses connections only when no duplicate of the socket is left.
        None => drop(duplicate),
    }
    let member = prepared.start(&task.app_dir, &data, &|_| {}).await;
    let member = member.map_err(|error| attempt.member_failed(error))?;
    let mut to_trace = control.trace_orders();
    tokio::spawn(async move {
        loop {
            tracer.set_orders(to_trace.borrow_and_update().iter().map(trace_order));
            if to_trace.changed().await.is_err() {
                break;
            }
        }
    });
    let report = MetricsTask::start(&log, metrics);
    let (linked, site) = (member.linked(), member.site());
    let health = app.health.as_ref().filter(|_| task.check_health && ordered.is_first && has_front_door);
    let ready = async {
        linked.await;
        if let Some(path) = health {
            check_health(&site, &path.value).await?;
        }
        control.send(&MemberMessage::Ready);
        Ok::<_, CliError>(())
    };
    let (goals, followed) = watch::channel(gate_goal(*orders.borrow_and_update()));
    let follow = async {
        while orders.changed().await.is_ok() {
            goals.send_replace(gate_goal(*orders.borrow_and_update()));
        }
        // Waits forever, because the channel's thread exits the process.
        std::future::pending::<()>().await;
    };
    let drained = |number| control.send(&MemberMessage::Drained { number });
    let mut serving = std::pin::pin!(member.serve_as_ordered(followed, drained));
    let mut follow = std::pin::pin!(follow);
    let cut_off = tokio::select! {
        cut_off = &mut serving => cut_off,
        () = &mut follow => 0,
        ready = ready => {
            ready?;
            tokio::select! {
                cut_off = &mut serving => cut_off,
                () = &mut follow => 0,
            }
        }
    };
    report.end().await;
    report_cut_off(&log, cut_off);
    Ok(())
}

/// Returns what the front door does under the supervisor's orders.
fn gate_goal(orders: MemberOrders) -> GateGoal {
    // The supervisor lets a member that is to accept the waiting connections accept again before it stops.
    let how = if orders.accept { GateStop::AcceptQueue } else { GateStop::LeaveQueue };
    GateGoal { open: orders.accept, pause: orders.pause, stop: orders.stop.then_some(how) }
}

fn options(task: &MemberTask, listener: Option<TcpListener>, (tracer, metrics): (Tracer, Metrics)) -> MemberOptions {
    let endpoint = |socket: &PathBuf| LinkAddress::Unix(socket.clone());
    MemberOptions {
        shape: task.shape.clone(),
        group: task.group.clone(),
        listen: task.sockets.get(&task.group).map(endpoint),
        peers: task.sockets.iter().map(|(group, socket)| (group.clone(), vec![endpoint(socket)])).collect(),
        tls: None,
        front: listener,
        limits: Limits::default(),
        // Warnings are dropped, because the supervisor has already printed the same warnings.
        network: network::from_environment(|_| ()).with_stubs(task.stubs.clone()),
        secrets: SecretValues::Given(
            task.secrets.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect(),
        ),
        environment: BTreeMap::new(),
        tracer,
        metrics,
        deterministic: task.deterministic,
        origin: task.origin,
        grace: Duration::from_secs(task.grace_s),
    }
}

/// Returns the app without the migrations of the stores that the supervisor has listed in its private folder; `None` if
/// there is no such list.
fn without_migrations(app: &App, private_dir: &Path) -> anyhow::Result<Option<App>> {
    let file = private_dir.join(WITHOUT_MIGRATIONS);
    let names = match std::fs::read(&file) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read `{}`", file.display()))),
    };
    let names: Vec<String> =
        serde_json::from_slice(&names).with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut app = app.clone();
    for (_, store) in app.sql.iter_mut().filter(|(name, _)| names.iter().any(|listed| listed == name.as_str())) {
        store.migrations = None;
    }
    Ok(Some(app))
}

/// Returns the tracer whose traces the member sends to its supervisor.
fn tracer(task: &MemberTask, log: &Log) -> Tracer {
    match task.sampling {
        Some(sampling) => Tracer::new(None, sampling, Arc::new(log.member_traces())),
        None => Tracer::default(),
    }
}

fn read_components(task: &MemberTask) -> Result<Components, CliError> {
    let read = |(name, path): (&String, &PathBuf)| -> Result<_, CliError> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read component `{name}` from `{}`", path.display()))?;
        Ok((ComponentName::new(name)?, bytes.into()))
    };
    task.components.iter().map(read).collect()
}
