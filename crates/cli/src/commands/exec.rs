//! `isomer exec`: runs a WASI command component with this terminal's stdin, stdout and stderr.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use isomer_console::{CliError, Console, FAILED};
use isomer_diagnostics::Diagnostic;
use isomer_project::{WasiVersion, WasmFile};
use isomer_runtime::code::{CodeCache, CodeError};
use isomer_runtime::command::{CommandError as ProgramError, CommandSettings, Generation, Program};
use isomer_runtime::guest::Directory;
use tokio::signal::unix::{SignalKind, signal};

use crate::grant_flags::GrantFlags;
use crate::reporting_outbound::ReportingOutbound;
use crate::user_dirs;

/// The exit code after Ctrl-C: 128 plus the signal's number, as shells report it.
const INTERRUPTED: u8 = 130;

/// Run a WASI command component (0.2 or 0.3) and exit with its exit code.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file of the component.
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The arguments that the component receives.
    #[arg(value_name = "ARGS", last = true)]
    arguments: Vec<String>,
    #[command(flatten)]
    grants: GrantFlags,
}

pub(crate) fn run(arguments: Arguments, console: &Console) -> Result<(), CliError> {
    let file = WasmFile::open(&arguments.file)?;
    let generation = match file.command()? {
        WasiVersion::P2 => Generation::P2,
        WasiVersion::P3 => Generation::P3,
    };
    let grants = arguments.grants.grants();
    // A program expects its own name in the first argument, so the file's name without its folder is passed.
    let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy().into_owned();
    let settings = CommandSettings {
        arguments: [vec![name.clone()], arguments.arguments].concat(),
        environment: arguments.grants.environment(),
        directories: grants
            .dirs
            .iter()
            .map(|dir| Directory {
                host: dir.value.host.clone(),
                guest: dir.value.guest.clone(),
                write: dir.value.write,
            })
            .collect(),
        outbound: Some(Arc::new(ReportingOutbound::new(&name, &grants.http, console))),
        sockets: Some(Arc::new(arguments.grants.sockets(console))),
    };
    let cache = cache(console);
    let program = {
        let progress = console.progress();
        Program::load(&file.bytes, generation, cache.as_ref(), || {
            progress.step(format!("compiling {}", file.path.display()));
        })?
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    let outcome = runtime.block_on(async {
        // The handler is installed before the component prints anything, because a program that reads this output may
        // then send Ctrl-C.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        Ok::<_, CliError>(tokio::select! {
            outcome = program.run(settings) => Some(outcome),
            _ = interrupt.recv() => None,
        })
    })?;
    // The process does not wait for a thread that is still reading standard input.
    runtime.shutdown_background();
    match outcome {
        None => Err(CliError::ExitCode(INTERRUPTED)),
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(CliError::ExitCode(code)),
        Some(Err(ProgramError::Trap(failure))) => {
            console.message(&console.renderer().error(&failure));
            for frame in failure.backtrace() {
                console.message(&format!("    at {frame}"));
            }
            Err(CliError::ExitCode(FAILED))
        }
        Some(Err(error)) => Err(error.into()),
    }
}

/// Opens the cache of compiled code. If it cannot be opened, the component is compiled on every run.
fn cache(console: &Console) -> Option<CodeCache> {
    let opened = CodeCache::open(&user_dirs::cache()?.join("exec"));
    let warn = |error: &CodeError| {
        let warning = Diagnostic::warning(format!("{error}: the component is compiled every time"));
        let warning = match std::error::Error::source(error) {
            Some(source) => warning.note(source.to_string()),
            None => warning,
        };
        console.message(&console.renderer().diagnostic(&warning));
    };
    opened.inspect_err(warn).ok()
}
