//! The process of one group, as a child of the supervisor: does what its order says, and ends when the channel does.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use isomer_capabilities::DataDir;
use isomer_front::Limits;
use isomer_manifest::{ComponentName, LinkAddress, Renderer, SourceFile};
use isomer_node::member::{Member, MemberOptions};
use isomer_node::revision::Components;
use isomer_observe::{Format, Log};
use isomer_runtime::code::CodeCache;
use tokio::signal::unix::{SignalKind, signal};

use super::control::Control;
use super::order::{Order, Word};
use crate::fail::Fail;
use crate::not_started::Attempt;
use crate::outbound;
use crate::rehearsal::secrets;

/// Runs as a member until told to stop. What goes wrong is told the supervisor.
pub(crate) fn run() -> Result<(), Fail> {
    let (control, order, listener) =
        Control::open().context("`--member` is for processes that `isomer run` starts itself")?;
    let renderer = Renderer::new(order.colour);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    let done = runtime.block_on(serve(&control, &order, listener));
    done.map_err(|fail| {
        let (text, code) = fail.in_words(&renderer);
        control.say(&Word::Failed { text, code });
        Fail::Exit(code)
    })
}

async fn serve(control: &Arc<Control>, order: &Order, listener: Option<TcpListener>) -> Result<(), Fail> {
    // What a terminal or a service manager sends to all is for the supervisor: from here on, these signals do nothing.
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        drop(signal(kind).context("cannot take over the signals")?);
    }
    let log = Log::start(std::io::stdout(), Format::Json, order.access_log).context("cannot start the log")?;
    let log = log.with_levels(order.log.parse().context("the supervisor's levels cannot be read")?);
    isomer_observe::listen_to_events(log.clone());
    let source = SourceFile::new(order.manifest.0.as_str(), order.manifest.1.as_str());
    let mut app = isomer_manifest::parse(&source).map_err(Fail::Manifest)?.app;
    secrets::take(&mut app, order.given_secrets.as_deref())?;
    let components = read(order)?;
    let data = DataDir::open_as_member(&order.data)?;
    let cache = CodeCache::open(&order.cache)?;
    let endpoint = |socket: &std::path::PathBuf| LinkAddress::Unix(socket.clone());
    let options = MemberOptions {
        shape: order.shape.clone(),
        group: order.group.clone(),
        listen: order.sockets.get(&order.group).map(endpoint),
        peers: order.sockets.iter().map(|(group, socket)| (group.clone(), vec![endpoint(socket)])).collect(),
        tls: None,
        front: listener,
        limits: Limits::default(),
        // What is wrong with it was said by the supervisor.
        network: outbound::network(|_| ()).with_stubs(order.stubs.clone()),
        environment: order.environment.clone(),
        given_clock_and_random: order.given_clock_and_random,
        grace: Duration::from_secs(order.grace_s),
    };
    let made = Member::make(&app, &order.app_dir, &components, options, &data, &cache, &log, &|_| {}).await;
    let attempt = Attempt { app: &app, dir: &order.app_dir, source: Some(&source), data: &data };
    let member = made.map_err(|error| attempt.member_failed(error))?;
    let linked = member.linked();
    let mut serving = std::pin::pin!(member.serve(control.stopped()));
    let cut_off = tokio::select! {
        cut_off = &mut serving => cut_off,
        () = linked => {
            control.say(&Word::Ready);
            serving.await
        }
    };
    if cut_off > 0 {
        log.warn(format!("{cut_off} connections were cut off when their time to finish was over"));
    }
    log.flush();
    Ok(())
}

fn read(order: &Order) -> Result<Components, Fail> {
    let read = |(name, path): (&String, &std::path::PathBuf)| -> Result<_, Fail> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read component `{name}` from `{}`", path.display()))?;
        Ok((ComponentName::new(name)?, bytes.into()))
    };
    order.components.iter().map(read).collect()
}
