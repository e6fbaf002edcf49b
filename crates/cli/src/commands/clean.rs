//! `isomer clean`: removes built components and compiled code of an app, and with `--data` also its data.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_serve::open_data;
use serde_json::json;

use isomer_console::{CliError, Console, print};
use isomer_project::{AppDir, find_app_dir, shown};

/// Remove built components and compiled code from an app's `.isomer` folder. With `--data`, also remove the app's data.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), or its isomer.toml.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// Also remove the app's data: its key-value and SQL stores with all copies. The data cannot be recovered.
    #[arg(long)]
    data: bool,
    /// Remove data without asking for confirmation.
    #[arg(long, requires = "data")]
    yes: bool,
    /// Print what was removed as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let app = find_app_dir(&arguments.path)?;
    let own = app.join(AppDir::OWN_DIR);
    if !own.exists() {
        if arguments.json {
            return print_removed(&own, &[]);
        }
        console.message("nothing to remove");
        return Ok(());
    }
    // Opening the data directory fails if a process serves the app. Then nothing is removed, because that process needs
    // the files.
    let held = open_data(&own)?;
    let mut removed = vec!["built components", "compiled code"];
    if arguments.data {
        let of_app = match arguments.path.as_os_str().to_str() {
            Some(".") | None => String::new(),
            Some(path) => format!(" {path}"),
        };
        let question = format!("remove all stores in {}?", shown(&own));
        console.confirm_removal(&question, arguments.yes, &format!("isomer clean{of_app} --data --yes"))?;
        removed.push("data");
    }
    isomer_toolchain::clean(&app)?;
    let parts: &[&str] = if arguments.data { &["cache", "kv", "sql", "drafts"] } else { &["cache"] };
    for part in parts {
        remove(&own.join(part))?;
    }
    drop(held);
    if arguments.json {
        return print_removed(&own, &removed);
    }
    console.message(&format!("removed from {}: {}", shown(&own), removed.join(", ")));
    console.message("Cargo's target folder is kept; to remove it: cargo clean");
    Ok(())
}

/// Prints a JSON object with the folder and the list of what was removed from it.
fn print_removed(folder: &Path, removed: &[&str]) -> Result<(), CliError> {
    print(&format!("{:#}\n", json!({ "folder": shown(folder), "removed": removed })))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
