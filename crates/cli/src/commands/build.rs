//! `isomer build`: builds the components of an app that are out of date, and lists all components with their states.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_console::{CliError, Console, print};
use isomer_display::{elapsed, size};
use isomer_project::{AppDir, shown};
use isomer_toolchain::BuiltComponent;
use serde_json::{Value, json};

/// Build an app's components. A component is built again only if its inputs have changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), its isomer.toml, or the file of an HTTP component.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// Print the components as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let began = Instant::now();
    let app = AppDir::open(&arguments.path)?;
    app.print_warnings(console);
    let built = app.build(console)?;
    let sized = built.iter().map(|built| {
        let metadata = std::fs::metadata(&built.wasm_path);
        let metadata = metadata.with_context(|| format!("cannot read `{}`", built.wasm_path.display()))?;
        Ok((built, metadata.len()))
    });
    let sized = sized.collect::<anyhow::Result<Vec<_>>>()?;
    if arguments.json {
        let components = sized.iter().map(|(built, bytes)| {
            json!({
                "name": built.component.as_str(),
                "wasm": built.wasm_path,
                "bytes": bytes,
                "changed": built.changed,
                "took_ms": built.took.map(milliseconds),
            })
        });
        let components = components.collect::<Value>();
        print(&format!("{:#}\n", json!({ "components": components, "took_ms": milliseconds(began.elapsed()) })))?;
    } else {
        print(&table(&sized))?;
        let changed = built.iter().filter(|built| built.changed).count();
        console.message(&format!("{changed} of {} changed ({})", built.len(), elapsed(began.elapsed())));
    }
    Ok(())
}

fn table(sized: &[(&BuiltComponent, u64)]) -> String {
    let widest = sized.iter().map(|(built, _)| built.component.as_str().len()).max().unwrap_or(0);
    let paths: Vec<String> = sized.iter().map(|(built, _)| shown(&built.wasm_path)).collect();
    let longest = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for ((built, bytes), path) in sized.iter().zip(&paths) {
        let name = built.component.as_str();
        let state = if built.changed { "changed" } else { "fresh" };
        let took = built.took.map(|took| elapsed(took).to_string()).unwrap_or_default();
        let line = format!("{name:<widest$}  {:>9}  {state:<7}  {path:<longest$}  {took}", size(*bytes));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
