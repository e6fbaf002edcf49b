//! `isomer manual`: writes the man pages of all commands. The command is hidden, because only `cargo xtask dist` runs
//! it.

use std::path::PathBuf;

use anyhow::Context as _;
use isomer_console::CliError;

/// Write the man pages of all commands.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder to which the pages are written. It must exist.
    #[arg(value_name = "FOLDER")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, command: clap::Command) -> Result<(), CliError> {
    let dir = &arguments.dir;
    clap_mangen::generate_to(command, dir).with_context(|| format!("cannot write to `{}`", dir.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_command_for_people_has_a_page() {
        let dir = tempfile::tempdir().expect("a folder");
        run(&Arguments { dir: dir.path().to_owned() }, crate::Arguments::command()).map_err(drop).expect("written");
        let page = std::fs::read_to_string(dir.path().join("isomer-deploy.1")).expect("a page");
        assert!(page.contains(".TH"), "{page}");
        assert!(dir.path().join("isomer.1").is_file());
        assert!(!dir.path().join("isomer-compile-child.1").exists(), "hidden");
    }
}
