//! `cargo xtask demo`: builds Isomer and the boutique in a new clone, and runs the shop, so that it can be opened in a
//! browser.
//!
//! Nearly all of the time until the first page is compilation. So `isomer` is built with the profile `demo` (see
//! `Cargo.toml`), and the shop's components are built at the same time, with the processor time that the build of the
//! engine does not use.

use std::process::Child;

use anyhow::{Context as _, Result, bail, ensure};
use isomer_diagnostics::SourceFile;

use crate::project::{self, Project, find_program, show};
use crate::setup::{self, Purpose};

/// The name of the task that builds the components. The task runs in its own process, because only a process can have a
/// lower priority.
pub(crate) const COMPONENTS_TASK: &str = "demo-components";

/// The niceness that is added to the build of the components. This build takes a tenth of the time of the engine's
/// build, and its result is needed later, so it must not delay the engine's build. It uses the processors that the
/// engine's build leaves idle: the last crates of the engine's build keep only one processor busy.
const NICENESS: &str = "10";

pub(crate) fn run(project: &Project, options: &[&str]) -> Result<()> {
    setup::run_for(project, Purpose::Demo)?;
    let components = start_components(project)?;
    let engine = project::run(&mut project.cargo(&["build", "--profile", "demo", "--locked", "--package", "isomer"]));
    let components = wait(components);
    engine.and(components)?;
    let mut command = project.command(project.target.join("demo/isomer"));
    command.arg("run").arg(project.boutique()).args(options);
    println!("$ {}", show(&command));
    project::hand_over(&mut command)
}

/// Starts this program again with the task [`COMPONENTS_TASK`].
fn start_components(project: &Project) -> Result<Child> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let mut command = match find_program("nice") {
        Some(nice) => {
            let mut command = project.command(nice);
            command.args(["-n", NICENESS]).arg(this);
            command
        }
        None => project.command(this),
    };
    command.arg(COMPONENTS_TASK).spawn().with_context(|| format!("cannot run `{}`", show(&command)))
}

fn wait(mut components: Child) -> Result<()> {
    let status = components.wait().context("cannot wait for the build of the components")?;
    ensure!(status.success(), "cannot build the shop's components ({status})");
    Ok(())
}

/// Builds the shop's components. `isomer run` then finds them up to date.
pub(crate) fn build_components(project: &Project) -> Result<()> {
    let dir = project.boutique();
    let path = dir.join("isomer.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let Ok(parsed) = isomer_manifest::parse(&SourceFile::new(path.display().to_string(), text)) else {
        bail!("`{}` has errors; to list the errors, run `isomer plan`", path.display());
    };
    isomer_toolchain::build_app(&parsed.app, &dir, &mut setup::show_progress)?;
    Ok(())
}
