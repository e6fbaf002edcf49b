//! A member: a process that a supervisor has started to run one group of a shape.
//!
//! The member serves its group until the supervisor stops it, and exits when the control channel closes.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use isomer_apps::member::{Member, MemberOptions};
use isomer_capabilities::DataDir;
use isomer_console::CliError;
use isomer_diagnostics::{Renderer, SourceFile};
use isomer_front::Limits;
use isomer_ids::ComponentName;
use isomer_manifest::LinkAddress;
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;
use isomer_seam::Components;
use isomer_supervisor::{ControlChannel, MemberMessage, NextTraces};
use isomer_telemetry::metrics::Metrics;
use isomer_telemetry::{TraceOrder, Tracer};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::report_cut_off;
use crate::member_metrics::MetricsTask;
use crate::member_task::MemberTask;
use crate::network;
use crate::start_error::StartAttempt;
use crate::test_secrets::apply_test_secrets;

/// Runs this process as a member until the supervisor stops it. Sends errors to the supervisor.
///
/// # Errors
/// If this process was not started by a supervisor, or if the group cannot be served.
pub fn run_member() -> Result<(), CliError> {
    let (control, task, listener) = ControlChannel::open(|task: &MemberTask| task.private_dir.clone())
        .context("cannot run as a member: only `isomer run` starts processes with `--member`")?;
    let renderer = Renderer::new(task.colour);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    runtime.block_on(serve(&control, &task, listener)).map_err(|error| {
        let (text, code) = error.render(&renderer);
        control.send(&MemberMessage::Failed { text, code });
        CliError::ExitCode(code)
    })
}

async fn serve(control: &ControlChannel, task: &MemberTask, listener: Option<TcpListener>) -> Result<(), CliError> {
    // A terminal or a service manager sends these signals to all processes. Only the supervisor reacts to them, so the
    // member replaces their default handlers with ones that do nothing.
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        drop(signal(kind).context("cannot install the handlers of SIGTERM and SIGINT")?);
    }
    let log = Log::start(std::io::stdout(), Format::Json, task.access_log).context("cannot start the log")?;
    let log = log.with_levels(task.log.parse().context("cannot read the supervisor's log levels")?);
    isomer_observe::listen_to_events(log.clone());
    let source = SourceFile::new(task.manifest.0.as_str(), task.manifest.1.as_str());
    let mut app = isomer_manifest::parse(&source).map_err(CliError::Findings)?.app;
    apply_test_secrets(&mut app, task.test_secrets.as_deref())?;
    let components = read_components(task)?;
    let data = DataDir::open_as_member(&task.data)?;
    let cache = CodeCache::open(&task.cache)?;
    let metrics = if task.sampling.is_some() { Metrics::default() } else { Metrics::disabled() };
    let tracer = tracer(task, &log);
    let endpoint = |socket: &PathBuf| LinkAddress::Unix(socket.clone());
    let options = MemberOptions {
        shape: task.shape.clone(),
        group: task.group.clone(),
        listen: task.sockets.get(&task.group).map(endpoint),
        peers: task.sockets.iter().map(|(group, socket)| (group.clone(), vec![endpoint(socket)])).collect(),
        tls: None,
        front: listener,
        limits: Limits::default(),
        // Warnings are dropped, because the supervisor has already printed the same warnings.
        network: network::from_environment(|_| ()).with_stubs(task.stubs.clone()),
        environment: task.environment.clone(),
        tracer: tracer.clone(),
        metrics: metrics.clone(),
        deterministic: task.deterministic,
        grace: Duration::from_secs(task.grace_s),
    };
    let made = Member::make(&app, &task.app_dir, &components, options, &data, &cache, &log, &|_| {}).await;
    let attempt = StartAttempt { app: &app, dir: &task.app_dir, source: Some(&source), data: &data };
    let member = made.map_err(|error| attempt.member_failed(error))?;
    if let Some(mut orders) = control.trace_orders() {
        tokio::spawn(async move {
            while let Some(NextTraces { path, requests }) = orders.recv().await {
                tracer.order(TraceOrder { path, requests });
            }
        });
    }
    let report = MetricsTask::start(&log, metrics);
    let linked = member.linked();
    let mut serving = std::pin::pin!(member.serve(control.stopped()));
    let cut_off = tokio::select! {
        cut_off = &mut serving => cut_off,
        () = linked => {
            control.send(&MemberMessage::Ready);
            serving.await
        }
    };
    report.end().await;
    report_cut_off(&log, cut_off);
    Ok(())
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
