//! Links the interfaces of WASI 0.2 and 0.3.
//!
//! Interfaces whose functions reach only what their handles refer to (streams, clocks, random, types of handles) are
//! linked once, without an owner. The other interfaces (environment, stdio, preopened directories, outgoing HTTP) are
//! linked per owner: each function first *enters* its owner, then calls wasmtime's implementation, which gets that
//! owner's context. There is never an `await` between entering the owner and the call that reads the context, so calls
//! in flight for several owners do not interfere.

use std::sync::OnceLock;

use wasmtime::component::{Access, Accessor, Linker, LinkerInstance, Resource, StreamReader};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::p2 as http2;
use wasmtime_wasi_http::p3 as http3;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};

use super::{filesystem, http_heads, output_streams};
use crate::guest::{Guest, attribute_output, current_span, owner_context};

/// The interfaces that are linked per owner, because what they reach depends on the owner. Without their versions.
const OWNED: [&str; 12] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:filesystem/preopens",
    "wasi:http/client",
    "wasi:http/outgoing-handler",
    "wasi:http/handler",
];

/// The packages of which only the interfaces in [`OWNED`] are linked per owner. Through their other interfaces, a guest
/// can reach files, streams and servers only with a handle that it already has. `wasi:sockets` is included because
/// every address is refused.
const SHARED_PACKAGES: [&str; 7] =
    ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:http/", "wasi:sockets/"];

/// Returns whether the interface is linked per owner.
pub(crate) fn is_owned(interface: &str) -> bool {
    let (path, _) = split(interface);
    OWNED.contains(&path)
}

/// Returns whether [`link_shared`] defines the interface.
pub(crate) fn is_shared(interface: &str) -> bool {
    SHARED_PACKAGES.iter().any(|package| interface.starts_with(package)) && !is_owned(interface)
}

/// The linker that defines all of WASI under its standard names, without an owner. It is created once for each engine,
/// because creating it takes longer than linking a group.
#[derive(Default)]
pub(crate) struct BaseLinker(OnceLock<Linker<Guest>>);

impl BaseLinker {
    /// Returns a copy of the linker. The first call creates the linker for `engine`.
    ///
    /// # Errors
    /// If wasmtime refuses a definition.
    pub(crate) fn get(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
        if let Some(linker) = self.0.get() {
            return Ok(linker.clone());
        }
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        link_shared(&mut linker)?;
        Ok(self.0.get_or_init(|| linker).clone())
    }
}

/// Defines all of WASI under its standard names. Functions that need a context use the one that belongs to no owner and
/// has no grants.
pub(crate) fn link_shared(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    p2::add_to_linker_async(linker)?;
    p3::add_to_linker(linker)?;
    http2::add_only_http_to_linker_async(linker)?;
    http3::add_to_linker(linker)?;
    http_heads::bound(linker)?;
    output_streams::attributed(linker)?;
    filesystem::bound(linker)
}

/// Defines one of the interfaces in [`OWNED`]. Its functions use the context of `owner`.
pub(crate) fn link_owned(
    instance: &mut LinkerInstance<'_, Guest>,
    interface: &str,
    owner: usize,
) -> wasmtime::Result<()> {
    let (path, version) = split(interface);
    let preview3 = version.starts_with("0.3");
    match path {
        "wasi:cli/environment" => environment(instance, owner),
        "wasi:cli/exit" => exit(instance, owner),
        "wasi:cli/stdin" if preview3 => stdin3(instance, owner),
        "wasi:cli/stdin" => stdin2(instance, owner),
        "wasi:cli/stdout" if preview3 => stdout3(instance, owner),
        "wasi:cli/stdout" => stdout2(instance, owner),
        "wasi:cli/stderr" if preview3 => stderr3(instance, owner),
        "wasi:cli/stderr" => stderr2(instance, owner),
        "wasi:cli/terminal-stdin" if preview3 => {
            instance.func_wrap("get-terminal-stdin", |_, ()| Ok((None::<Resource<p3::cli::TerminalInput>>,)))
        }
        "wasi:cli/terminal-stdin" => instance.func_wrap("get-terminal-stdin", |_, ()| {
            Ok((None::<Resource<p2::bindings::cli::terminal_input::TerminalInput>>,))
        }),
        "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr" => {
            let name = if path.ends_with("out") { "get-terminal-stdout" } else { "get-terminal-stderr" };
            if preview3 {
                instance.func_wrap(name, |_, ()| Ok((None::<Resource<p3::cli::TerminalOutput>>,)))
            } else {
                instance.func_wrap(name, |_, ()| {
                    Ok((None::<Resource<p2::bindings::cli::terminal_output::TerminalOutput>>,))
                })
            }
        }
        "wasi:filesystem/preopens" => {
            instance.func_wrap("get-directories", move |mut store, ()| Ok((store.data_mut().get_directories(owner)?,)))
        }
        "wasi:http/client" => client3(instance, "send", owner),
        "wasi:http/handler" => client3(instance, "handle", owner),
        "wasi:http/outgoing-handler" => client2(instance, owner),
        _ => Ok(()),
    }
}

/// Splits `wasi:cli/environment@0.2.6` into `wasi:cli/environment` and `0.2.6`.
fn split(interface: &str) -> (&str, &str) {
    interface.split_once('@').unwrap_or((interface, ""))
}

fn cli<'a>(store: &'a mut StoreContextMut<'_, Guest>, owner: usize) -> WasiCliCtxView<'a> {
    store.data_mut().enter(owner);
    owner_cli(store.data_mut())
}

/// Returns the `wasi:cli` view of the owner that [`Guest::enter`] selected last. This is a function, not a closure,
/// because wasmtime stores a function pointer.
fn owner_cli(guest: &mut Guest) -> WasiCliCtxView<'_> {
    let view = owner_context(guest);
    WasiCliCtxView { ctx: view.ctx.cli(), table: view.table }
}

fn environment(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use p2::bindings::cli::environment::Host;
    instance.func_wrap("get-environment", move |mut store, ()| Ok((cli(&mut store, owner).get_environment()?,)))?;
    instance.func_wrap("get-arguments", move |mut store, ()| Ok((cli(&mut store, owner).get_arguments()?,)))?;
    for name in ["initial-cwd", "get-initial-cwd"] {
        instance.func_wrap(name, move |mut store, ()| Ok((cli(&mut store, owner).initial_cwd()?,)))?;
    }
    Ok(())
}

fn exit(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use p2::bindings::cli::exit::Host;
    instance.func_wrap("exit", move |mut store, (status,): (Result<(), ()>,)| cli(&mut store, owner).exit(status))?;
    instance.func_wrap("exit-with-code", move |mut store, (code,): (u8,)| cli(&mut store, owner).exit_with_code(code))
}

fn stdin2(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    instance.func_wrap("get-stdin", move |mut store, ()| {
        Ok((p2::bindings::cli::stdin::Host::get_stdin(&mut cli(&mut store, owner))?,))
    })
}

fn stdout2(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    instance.func_wrap("get-stdout", move |mut store, ()| {
        Ok((p2::bindings::cli::stdout::Host::get_stdout(&mut cli(&mut store, owner))?,))
    })
}

fn stderr2(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    instance.func_wrap("get-stderr", move |mut store, ()| {
        Ok((p2::bindings::cli::stderr::Host::get_stderr(&mut cli(&mut store, owner))?,))
    })
}

fn stdin3(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use p3::bindings::cli::stdin::HostWithStore;
    instance.func_wrap("read-via-stream", move |mut store, ()| {
        store.data_mut().enter(owner);
        Ok((WasiCli::read_via_stream(Access::<Guest, WasiCli>::new(store, owner_cli))?,))
    })
}

fn stdout3(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use p3::bindings::cli::stdout::HostWithStore;
    instance.func_wrap("write-via-stream", move |mut store, (data,): (StreamReader<u8>,)| {
        let is_attributed = attribute_output(&mut store);
        store.data_mut().enter(owner);
        let access = Access::<Guest, WasiCli>::new(store.as_context_mut(), owner_cli);
        let written = WasiCli::write_via_stream(access, data);
        end_attribution(&mut store, is_attributed);
        Ok((written?,))
    })
}

fn end_attribution(store: &mut StoreContextMut<'_, Guest>, is_attributed: bool) {
    if is_attributed {
        store.data_mut().attribute_output_to_scope();
    }
}

fn stderr3(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use p3::bindings::cli::stderr::HostWithStore;
    instance.func_wrap("write-via-stream", move |mut store, (data,): (StreamReader<u8>,)| {
        let is_attributed = attribute_output(&mut store);
        store.data_mut().enter(owner);
        let access = Access::<Guest, WasiCli>::new(store.as_context_mut(), owner_cli);
        let written = WasiCli::write_via_stream(access, data);
        end_attribution(&mut store, is_attributed);
        Ok((written?,))
    })
}

fn client3(instance: &mut LinkerInstance<'_, Guest>, name: &str, owner: usize) -> wasmtime::Result<()> {
    use http3::bindings::http::client::HostWithStore;
    use http3::bindings::http::types::ErrorCode;
    instance.func_wrap_concurrent(name, move |accessor: &Accessor<Guest>, (request,): (Resource<http3::Request>,)| {
        Box::pin(async move {
            // The owner can be selected here, because `send` calls the hooks for outgoing requests during its first
            // poll, which is part of this poll. So no other owner is selected in between.
            accessor.with(|mut store| {
                let span = current_span(&mut store);
                store.data_mut().enter_sender(owner, span);
            });
            let http = accessor.with_getter::<WasiHttp>(Guest::http);
            match WasiHttp::send(&http, request).await {
                Ok(response) => Ok((Ok::<_, ErrorCode>(response),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        })
    })
}

fn client2(instance: &mut LinkerInstance<'_, Guest>, owner: usize) -> wasmtime::Result<()> {
    use http2::bindings::http::outgoing_handler::Host;
    use http2::bindings::http::types::ErrorCode;
    use http2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
    type Parameters = (Resource<HostOutgoingRequest>, Option<Resource<wasmtime_wasi_http::RequestOptions>>);
    instance.func_wrap("handle", move |mut store: StoreContextMut<'_, Guest>, (request, options): Parameters| {
        let span = current_span(&mut store);
        let guest = store.data_mut();
        guest.enter_sender(owner, span);
        match guest.http().handle(request, options) {
            Ok(response) => Ok((Ok::<Resource<HostFutureIncomingResponse>, ErrorCode>(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    })
}
