//! `isomer wit`: writes the platform's WIT packages into an app, for its bindings.

use std::path::PathBuf;

use crate::app_dir;
use crate::console::Console;
use crate::fail::Fail;

/// Where an app keeps the WIT packages of others.
pub(crate) const DEPS: &str = "wit/deps";

/// Write the WIT packages of the platform (WASI 0.2 and 0.3, `isomer:*`) into an app's `wit/deps`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or one inside it), or its isomer.toml.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let dir = app_dir::find(&arguments.path)?.join(DEPS);
    let written = isomer_wit::write_deps(&dir)?;
    let shown = app_dir::shown(&dir);
    if written.is_empty() {
        console.say(&format!("{shown} is up to date"));
        return Ok(());
    }
    for file in &written {
        console.say(&format!("wrote {}", app_dir::shown(file)));
    }
    Ok(())
}
