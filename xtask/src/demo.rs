//! `cargo xtask demo`: from a fresh clone to a shop that can be opened in a browser.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::project::{self, Project, show};
use crate::setup::{self, Purpose};

pub(crate) fn run(project: &Project, options: &[&str]) -> Result<()> {
    setup::run_for(project, Purpose::Demo)?;
    project::run(&mut project.cargo(&["build", "--release", "--package", "isomer"]))?;
    let isomer = project.target.join("release/isomer");
    // Builds the components first, where they are not up to date.
    let mut command = project.command(&isomer);
    command.arg("run").arg(project.boutique()).args(options);
    println!("$ {}", show(&command));
    hand_over(command)
}

/// The shop takes the place of this process, so that signals reach it alone.
#[cfg(unix)]
fn hand_over(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).with_context(|| format!("`{}` cannot be run", show(&command)))
}

/// The shop runs until it ends.
#[cfg(not(unix))]
fn hand_over(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` cannot be run", show(&command)))?;
    anyhow::ensure!(status.success(), "`{}` failed ({status})", show(&command));
    Ok(())
}
