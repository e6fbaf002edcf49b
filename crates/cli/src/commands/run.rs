//! `isomer run`: an app, or a single component, in one process, until it is told to stop.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use isomer_manifest::App;

use crate::app_dir::{self, AppDir};
use crate::console::Console;
use crate::fail::Fail;
use crate::grant_flags::GrantFlags;
use crate::serving::{ServeFlags, Server, Subject};
use crate::user_dirs;
use crate::wasm_file::WasmFile;

/// Build an app and run it in one process, or run a single HTTP component.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app's folder (or one inside it), or a component that answers HTTP (WASI 0.3 or 0.2).
    #[arg(value_name = "DIR | FILE.wasm", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten, next_help_heading = "Grants (for FILE.wasm; those of an app are in its isomer.toml)")]
    grants: GrantFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the executor")?;
    runtime.block_on(serve(arguments, *console, Instant::now()))
}

async fn serve(arguments: &Arguments, console: Console, began: Instant) -> Result<(), Fail> {
    let (mut server, subject, _kept) =
        if is_file(&arguments.path) { single(arguments, console).await? } else { app(arguments, console).await? };
    let plan = server.workshop.take_over(&subject).await?;
    let (serving, workshop) = server.split()?;
    workshop.say_ready(&plan, began)?;
    serving.await;
    drop(workshop);
    Ok(())
}

/// Folders are apps; what is named `.wasm` is meant as a file even if it is not there.
fn is_file(path: &Path) -> bool {
    path.is_file() || (path.extension().is_some_and(|extension| extension == "wasm") && !path.is_dir())
}

async fn app(arguments: &Arguments, console: Console) -> Result<(Server, Subject, Option<tempfile::TempDir>), Fail> {
    if let Some(flag) = arguments.grants.first() {
        return Err(Fail::usage(
            format!("`{flag}` is for a component that is run from its file"),
            "an app's grants are written in its isomer.toml: [components.NAME.grants]",
        ));
    }
    let app = AppDir::open(&arguments.path)?;
    app.say_warnings(&console);
    let data = arguments.serve.data.clone().unwrap_or_else(|| app.dir.join(".isomer"));
    let server = Server::open(&arguments.serve, &data, None, console).await?;
    let components = app_dir::read(&app.build(&console)?)?;
    Ok((server, Subject::new(&app, components), None))
}

/// Without a manifest nothing can be stored, so the data directory is one that goes away, unless one is named.
async fn single(arguments: &Arguments, console: Console) -> Result<(Server, Subject, Option<tempfile::TempDir>), Fail> {
    let file = WasmFile::open(&arguments.path)?;
    file.check_http()?;
    let app = App::single(&file.path, arguments.grants.grants());
    let name = app.components.keys().next().expect("it has the one component").clone();
    let (data, kept) = match &arguments.serve.data {
        Some(data) => (data.clone(), None),
        None => {
            let kept = tempfile::Builder::new().prefix("isomer-").tempdir().context("cannot make a folder for data")?;
            (kept.path().to_owned(), Some(kept))
        }
    };
    let cache = user_dirs::cache().filter(|_| kept.is_some()).map(|cache| cache.join("run"));
    let server = Server::open(&arguments.serve, &data, cache.as_deref(), console).await?;
    let dir = std::env::current_dir().context("cannot tell the working directory")?;
    Ok((server, Subject { app, dir, source: None, components: [(name, file.bytes.into())].into() }, kept))
}
