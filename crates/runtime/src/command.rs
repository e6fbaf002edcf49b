//! One-off commands: a component with `wasi:cli/run` (0.2 or 0.3), run once with the stdin, stdout and stderr of this
//! process.
//!
//! A command has no time or memory limit, because the user who started it can stop it. Dropping the future of
//! [`Program::run`] stops the command, even in an endless loop. A command can reach only what its [`CommandSettings`]
//! grant, and the default settings grant nothing.

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
use crate::wasi::{config, http_heads, logging};

/// The exit code of a command whose `run` function returns an error without an exit code.
const FAILED: u8 = 1;

/// The arguments, environment and permissions of a command.
#[derive(Clone, Default)]
pub struct CommandSettings {
    /// The command-line arguments. The first one is the command's name.
    pub arguments: Vec<String>,
    /// The environment variables. The command also gets them as the values of `wasi:config`.
    pub environment: Vec<(String, String)>,
    /// The directories that the command can open.
    pub directories: Vec<Directory>,
    /// Sends the command's outgoing HTTP requests. `None` refuses every request.
    pub outbound: Option<Arc<dyn Outbound>>,
    /// Decides which sockets the command may use. `None` refuses every address and every look-up of a host name.
    pub sockets: Option<Arc<dyn SocketPolicy>>,
}

/// A use of a socket address, for which a guest needs permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketUse {
    /// The guest connects to a TCP peer at the socket address, or exchanges UDP datagrams with a peer at the socket
    /// address.
    Connect,
    /// The guest binds a socket to the local socket address. A socket that is not bound is bound by connecting, sending
    /// or listening: permission to bind it to the unspecified address and port 0 is then needed too.
    Bind,
    /// The guest listens for TCP connections on the local socket address, or accepts a TCP connection from a peer at
    /// the socket address.
    Serve,
}

/// Decides what a command may do with sockets.
pub trait SocketPolicy: Send + Sync + 'static {
    /// Returns whether the guest may use `address` for `purpose`.
    fn allows(&self, address: SocketAddr, purpose: SocketUse) -> BoxFuture<'static, bool>;

    /// Returns whether the guest may look up host names.
    fn looks_up_names(&self) -> bool;
}

/// The version of WASI that a command was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// WASI 0.2: the command exports `wasi:cli/run@0.2.*`.
    P2,
    /// WASI 0.3: the command exports `wasi:cli/run@0.3.*`.
    P3,
}

/// The reasons why a command was not started or did not return.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The wasmtime engine cannot be set up.
    #[error("cannot start the engine")]
    Engine {
        /// Why the engine cannot be set up.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The command cannot be compiled.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A granted directory cannot be opened.
    #[error("the directory `{}` cannot be opened", directory.host.display())]
    Directory {
        /// The granted directory.
        directory: Directory,
        /// Why the directory cannot be opened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The command cannot be instantiated, for example because it imports an interface that commands do not get.
    #[error("the command cannot be started")]
    Start {
        /// Why the command cannot be instantiated.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The command trapped.
    #[error(transparent)]
    Trap(Failure),
}

/// A compiled command, which can be run.
pub struct Program {
    engine: Engine,
    code: Code,
    generation: Generation,
}

impl Program {
    /// Loads the code of `bytes` from `cache`, or compiles `bytes` if the cache has no code for them. Calls `compiling`
    /// before it compiles.
    ///
    /// # Errors
    /// If the bytes do not compile.
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

    /// Runs the command until it returns or exits, and returns its exit code. Dropping the future stops the command.
    ///
    /// # Errors
    /// If the command cannot be started, or traps.
    pub async fn run(&self, settings: CommandSettings) -> Result<u8, CommandError> {
        let linker = linker(&self.engine, &settings.environment).map_err(cannot_start)?;
        let mut store = Store::new(self.engine.wasmtime(), CommandData::new(settings)?);
        // The epoch makes a guest yield even in an endless loop, so that its future can be dropped.
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
                // An exit code is one byte. Like the operating system, keeps only the low byte of a larger exit code.
                Some(exit) => Ok(exit.0.to_le_bytes()[0]),
                None => Err(CommandError::Trap(Failure::from_trap(&error, None))),
            },
        }
    }
}

fn cannot_start(error: wasmtime::Error) -> CommandError {
    CommandError::Start { source: error.into() }
}

fn linker(engine: &Engine, environment: &[(String, String)]) -> wasmtime::Result<Linker<CommandData>> {
    let mut linker = Linker::new(engine.wasmtime());
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    http_heads::charge_command(&mut linker)?;
    config::define_all(&mut linker, &Arc::new(environment.iter().cloned().collect()))?;
    logging::define_all(&mut linker)?;
    Ok(linker)
}

/// The data of a command's wasmtime store.
struct CommandData {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: CommandHooks,
}

impl CommandData {
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
                    // wasmtime requires a `Sync` future here. A policy's future is not necessarily `Sync`, but the
                    // handle of a tokio task always is.
                    let decided = tokio::spawn(policy.allows(address, purpose(used)));
                    Box::pin(async move { decided.await.unwrap_or(false) })
                },
            );
        }
        Ok(Self {
            table: ResourceTable::new(),
            wasi: builder.build(),
            http: WasiHttpCtx::new(),
            hooks: CommandHooks(settings.outbound),
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

impl WasiView for CommandData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CommandData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

impl http_heads::HandleCharges for CommandData {
    /// Charges nothing, because the memory of a command has no limit.
    fn charge_handles(&mut self, _bytes: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Sends the outgoing HTTP requests of a command.
struct CommandHooks(Option<Arc<dyn Outbound>>);

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl WasiHttpHooks for CommandHooks {
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
