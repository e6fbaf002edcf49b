//! One-off commands: a component with `wasi:cli/run` (0.2 or 0.3), run once with this process's stdin, stdout and stderr.
//!
//! A command is run for the person who started it, so nothing limits its time and memory but that person (dropping the
//! future stops it, even in a loop). What it reaches is what [`CommandSettings`] grant, and nothing by default.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::code::{Code, CodeCache, CodeError, Key};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::guest::{Directory, Outbound};
use crate::wasi::{config, http_heads};

/// The exit code of a command whose `run` gives an error without saying which.
const FAILED: u8 = 1;

/// What a command is started with.
#[derive(Clone, Default)]
pub struct CommandSettings {
    /// Its arguments; the first is its own name.
    pub arguments: Vec<String>,
    /// Its environment, and what it finds in `wasi:config`.
    pub environment: Vec<(String, String)>,
    /// Its directories.
    pub directories: Vec<Directory>,
    /// Its way out over HTTP; none refuses every request.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// What it may do with sockets. Without a policy every address and every look-up of a name is refused.
    pub sockets: Option<Arc<dyn SocketPolicy>>,
}

/// What a guest wants to do with a socket address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketUse {
    /// Exchange data with this peer, on the guest's initiative.
    Connect,
    /// Take a local address. The system does this with the unspecified address and port 0 before every connection.
    Bind,
    /// Wait for connections at this local address, or take one from this peer.
    Serve,
}

/// Decides about sockets.
pub trait SocketPolicy: Send + Sync + 'static {
    /// Returns whether the guest may use `address` like this.
    fn allows(&self, address: SocketAddr, purpose: SocketUse) -> BoxFuture<'static, bool>;

    /// Returns whether the guest may look up names.
    fn looks_up_names(&self) -> bool;
}

/// Which WASI a command was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `wasi:cli/run@0.2.*`.
    P2,
    /// `wasi:cli/run@0.3.*`.
    P3,
}

/// Why a command did not run to its own end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The engine could not be set up.
    #[error("cannot start the engine")]
    Engine {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The compiler.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A granted directory cannot be opened.
    #[error("the directory `{}` cannot be opened", directory.host.display())]
    Directory {
        /// The grant.
        directory: Directory,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It imports what a command is not given, or its start failed.
    #[error("the command cannot be started")]
    Start {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It trapped.
    #[error(transparent)]
    Trap(Failure),
}

/// A command, compiled.
pub struct Program {
    engine: Engine,
    code: Code,
    generation: Generation,
}

impl Program {
    /// Compiles `bytes`, or takes the code from `cache` if they were compiled before. `compiling` is called before the former.
    ///
    /// # Errors
    /// When the bytes do not compile.
    pub fn load(
        bytes: &[u8],
        generation: Generation,
        cache: Option<&CodeCache>,
        compiling: impl FnOnce(),
    ) -> Result<Self, CommandError> {
        let engine = Engine::on_demand().map_err(|error| CommandError::Engine { source: error.into() })?;
        let key = Key::new(&engine, [bytes]);
        let code = match cache.and_then(|cache| cache.load(&engine, &key)) {
            Some(code) => code,
            None => {
                compiling();
                match cache {
                    Some(cache) => cache.compile(&engine, &key, bytes, b"")?,
                    None => Component::from_binary(engine.wasmtime(), bytes)
                        .map_err(|source| CodeError::Compile { source })?
                        .into(),
                }
            }
        };
        Ok(Self { engine, code, generation })
    }

    /// Runs the command to its end and gives its exit code. Dropping the future stops it.
    ///
    /// # Errors
    /// When it cannot be started, or traps.
    pub async fn run(&self, settings: CommandSettings) -> Result<u8, CommandError> {
        let linker = linker(&self.engine, &settings.environment).map_err(cannot_start)?;
        let mut store = Store::new(self.engine.wasmtime(), Command::new(settings)?);
        // The clock lets the future of a guest that loops be dropped.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        let pre = linker.instantiate_pre(self.code.component()).map_err(cannot_start)?;
        let outcome = match self.generation {
            Generation::P2 => {
                let pre = wasmtime_wasi::p2::bindings::CommandPre::new(pre).map_err(cannot_start)?;
                match pre.instantiate_async(&mut store).await {
                    Ok(command) => command.wasi_cli_run().call_run(&mut store).await,
                    Err(error) => Err(error),
                }
            }
            Generation::P3 => {
                let pre = wasmtime_wasi::p3::bindings::CommandPre::new(pre).map_err(cannot_start)?;
                match pre.instantiate_async(&mut store).await {
                    Ok(command) => {
                        let run = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await);
                        run.await.and_then(|outcome| outcome)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match outcome {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(FAILED),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // Exit codes are bytes; of a larger one the system keeps the low byte, too.
                Some(exit) => Ok(exit.0.to_le_bytes()[0]),
                None => Err(CommandError::Trap(Failure::from_trap(&error, None))),
            },
        }
    }
}

fn cannot_start(error: wasmtime::Error) -> CommandError {
    CommandError::Start { source: error.into() }
}

fn linker(engine: &Engine, environment: &[(String, String)]) -> wasmtime::Result<Linker<Command>> {
    let mut linker = Linker::new(engine.wasmtime());
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    http_heads::tell_command(&mut linker)?;
    config::define_all(&mut linker, &Arc::new(environment.iter().cloned().collect()))?;
    Ok(linker)
}

/// The data of a command's store.
struct Command {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl Command {
    fn new(settings: CommandSettings) -> Result<Self, CommandError> {
        let mut builder = WasiCtxBuilder::new();
        builder.inherit_stdio().args(&settings.arguments).envs(&settings.environment);
        for directory in settings.directories {
            let perms = if directory.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            builder
                .preopened_dir(&directory.host, &directory.guest, perms)
                .map_err(|error| CommandError::Directory { directory, source: error.into() })?;
        }
        if let Some(policy) = settings.sockets {
            builder.allow_ip_name_lookup(policy.looks_up_names()).allow_tcp(true).allow_udp(true).socket_addr_check(
                move |address, used| {
                    // The check's future must be `Sync`, which a policy's need not be: a task's handle is.
                    let decided = tokio::spawn(policy.allows(address, purpose(used)));
                    Box::pin(async move { decided.await.unwrap_or(false) })
                },
            );
        }
        Ok(Self {
            table: ResourceTable::new(),
            wasi: builder.build(),
            http: WasiHttpCtx::new(),
            hooks: Hooks(settings.outbound),
        })
    }
}

fn purpose(used: SocketAddrUse) -> SocketUse {
    match used {
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => SocketUse::Connect,
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => SocketUse::Bind,
        SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => SocketUse::Serve,
    }
}

impl WasiView for Command {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Command {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

impl http_heads::HandleCharges for Command {
    /// A command's memory has no limit.
    fn charge_handles(&mut self, _bytes: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// The command's way out.
struct Hooks(Option<Arc<dyn Outbound>>);

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        let Some(outbound) = &self.0 else {
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        };
        let sent = outbound.send(request, options, None);
        Box::new(async move {
            let (response, io) = sent.await?;
            Ok((response, Box::new(io) as Box<dyn Future<Output = Result<(), HttpError>> + Send>))
        })
    }
}
