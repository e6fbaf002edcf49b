//! `isomer ship providers`: compiles the components that `isomer ship wasm` puts into an app's file, for a release tarball.

use std::path::PathBuf;

use isomer_console::{CliError, Console, print};
use isomer_project::shown;
use isomer_standalone::ProviderFiles;
use isomer_toolchain::BuildProgress;

use super::wasm::hinted;

/// Compile the components that `isomer ship wasm` puts into an app's file.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder to put them into.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), CliError> {
    let files = {
        let progress = console.progress();
        let mut report = |step: BuildProgress<'_>| match step {
            BuildProgress::Step(text) => progress.step(text),
            BuildProgress::Output(text) => progress.line(text),
        };
        ProviderFiles::build_into(&arguments.folder, &mut report).map_err(hinted)?
    };
    for file in files {
        print(&format!("{}\n", shown(&file)))?;
    }
    Ok(())
}
