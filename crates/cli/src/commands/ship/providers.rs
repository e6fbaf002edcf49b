//! `isomer ship providers`: compiles the components that `isomer ship wasm` puts into an app's file, for a release tarball.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_project::shown;
use isomer_standalone::ProviderFiles;

use super::wasm::{build_report, hinted};

/// Compile the components that `isomer ship wasm` puts into an app's file.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder to put them into.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let files = {
        let progress = console.progress();
        let mut report = build_report(&progress);
        ProviderFiles::build_into(&arguments.folder, &mut report).map_err(hinted)?
    };
    for file in files {
        print(&format!("{}\n", shown(&file)))?;
    }
    Ok(())
}
