//! The project's own tasks: `cargo xtask TASK`.
//!
//! Every task that needs logic is in this crate rather than in a shell script. A new clone compiles this crate first,
//! so it must be quick to build: of the platform's crates, it depends only on the toolchain, which builds components,
//! and on what the toolchain needs. Tasks that need the engine run the built `isomer`. The benchmarks are a separate
//! program (`bench/runner`) that uses this crate as a library.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod book;
mod browser;
mod demo;
mod dist;
pub mod project;
pub mod setup;
mod steps;
mod test;
mod tidy;

use anyhow::{Result, bail};

use crate::project::Project;
use crate::setup::Purpose;

const USAGE: &str = "\
Usage: cargo xtask TASK

Tasks:
  setup [--for test|demo|bench]  install what is missing, showing each command (default: test)
  demo [OPTION OF ISOMER RUN…]   build Isomer and the boutique, and run it
  test [--no-browser] [--long] [--jobs N]
                                 check format, lints and tidiness, and run all tests; with --long, run full soaks
  tidy [--cycles CRATE]          check layers, import cycles, file headers and lengths, words, links;
                                 or print the import cycles of one crate
  book                           build the documentation as a book
  dist [--binary PROGRAM] [--out FOLDER]
                                 make the release tarball and its checksum
  bench [NAME…] [--quick] [--json FILE] [--publish] [--kept]
                                 run benchmarks, in release mode
  soak [--long] [--seed N]       run a node under well-behaved and hostile tenants while apps are deployed
";

/// Runs the task that the command line names.
///
/// # Errors
/// If the task is unknown, or fails.
pub fn run(arguments: &[&str]) -> Result<()> {
    let project = Project::find()?;
    match arguments {
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        ["setup"] | ["setup", "--for", "test"] => setup::run(&project, Purpose::Test),
        ["setup", "--for", "demo"] => setup::run(&project, Purpose::Demo),
        ["setup", "--for", "bench"] => run_benchmarks(&project, &["setup"]),
        ["demo", options @ ..] => demo::run(&project, options),
        [demo::COMPONENTS_TASK] => demo::build_components(&project),
        ["dist", options @ ..] => dist::run(&project, options),
        ["test", options @ ..] => test::run(&project, options),
        ["tidy"] => tidy::run(&project),
        ["tidy", "--cycles", crate_name] => tidy::show_cycles(&project, crate_name),
        ["book"] => {
            book::install(&project)?;
            book::build(&project)
        }
        ["bench" | "soak", ..] => run_benchmarks(&project, arguments),
        _ => bail!("unknown task: `{}`\n\n{USAGE}", arguments.join(" ")),
    }
}

/// Replaces this process with the program that runs the benchmarks. That program is built with the profile `dev`, and
/// the programs that it measures are built in release mode.
fn run_benchmarks(project: &Project, arguments: &[&str]) -> Result<()> {
    let mut command = project.cargo(&["run", "--quiet", "--locked", "--package", "isomer-bench-runner", "--"]);
    project::hand_over(command.args(arguments))
}
