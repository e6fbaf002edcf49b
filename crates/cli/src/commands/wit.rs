//! `isomer wit`: writes the platform's WIT packages that an app's worlds use into the app's `wit/deps`, from which the
//! app's bindings are generated.

use std::path::{Path, PathBuf};

use isomer_console::{CliError, Console, print};
use isomer_project::{find_app_dir, shown};
use isomer_wit::{NeedError, WitPackage, needed, packages, remove_unneeded, write_deps};
use serde_json::json;

/// The folder of an app's own WIT files, relative to the app's folder.
const WIT: &str = "wit";

/// Write the platform's WIT packages (WASI 0.2 and 0.3, `isomer:*`) into `wit/deps`: those that the worlds in an app's
/// `wit` folder use.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or a folder inside it), or its isomer.toml.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    /// List the platform's packages, and write nothing.
    #[arg(long)]
    list: bool,
    /// Print the files that were written and removed, or the packages of `--list`, as JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    if arguments.list && arguments.json {
        let ids: Vec<String> = packages().iter().map(|package| package.id()).collect();
        return print(&format!("{:#}\n", json!(ids)));
    }
    if arguments.list {
        return print(&packages().iter().map(|package| package.id() + "\n").collect::<String>());
    }
    // The path is relative to the working directory if possible, because error messages contain it.
    let wit = PathBuf::from(shown(&find_app_dir(&arguments.path)?.join(WIT)));
    let deps = wit.join("deps");
    let wanted = needed(&wit).map_err(cannot_tell)?;
    let removed = remove_unneeded(&deps, &wanted)?;
    let written = write_deps(&deps, wanted.iter().copied())?;
    if arguments.json {
        let shown = |paths: &[PathBuf]| paths.iter().map(|path| shown(path)).collect::<Vec<_>>();
        return print(&format!("{:#}\n", json!({ "written": shown(&written), "removed": shown(&removed) })));
    }
    for folder in &removed {
        console.message(&format!("removed {}, which no world of the app uses", shown(folder)));
    }
    for file in &written {
        console.message(&format!("wrote {}", shown(file)));
    }
    if wanted.is_empty() {
        console.message(&format!(
            "no world in {} uses a package of the platform; to list the packages: isomer wit --list",
            shown(&wit)
        ));
    } else if removed.is_empty() && written.is_empty() {
        console.message(&format!("{} is up to date", shown(&deps)));
    }
    Ok(())
}

/// Writes the platform's WIT packages that the app's worlds use into the app's `wit/deps`.
pub(crate) fn write(app: &Path) -> Result<(), CliError> {
    let wit = app.join(WIT);
    let wanted: Vec<&WitPackage> = needed(&wit).map_err(cannot_tell)?;
    write_deps(&wit.join("deps"), wanted)?;
    Ok(())
}

fn cannot_tell(error: NeedError) -> CliError {
    let hint = error.hint();
    CliError::hinted(error, hint)
}
