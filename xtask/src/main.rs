//! The project's own tasks: `cargo xtask TASK`.
//!
//! Anything with logic that a shell script could do is here. It must stay quick to build, so it depends on the guest toolchain
//! and on what sees a node from outside, never on the engine: what needs the engine is done by running the built `isomer`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod bench;
mod book;
mod browser;
mod demo;
mod project;
mod setup;
mod soak;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::project::Project;
use crate::setup::Purpose;

const USAGE: &str = "\
Usage: cargo xtask TASK

Tasks:
  setup [--for test|demo|bench]  install what is missing; shows what it does (default: test)
  demo [ISOMER RUN'S OPTIONS]    build Isomer and the boutique, and run it
  test [--no-browser]            format, lints, tidy, all tests
  tidy                           layers, file headers and lengths, words, links
  book                           build the documentation as a book
  bench [NAME…] [--quick] [--json FILE] [--publish] [--kept]
                                 benchmarks, in release mode
  soak [--long] [--seed N]       a node under good and hostile tenants, with deployments going on
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let project = Project::find()?;
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        ["setup"] | ["setup", "--for", "test"] => setup::run(&project, Purpose::Test),
        ["setup", "--for", "demo"] => setup::run(&project, Purpose::Demo),
        ["setup", "--for", "bench"] => setup::run(&project, Purpose::Bench { wasmtime: true }),
        ["demo", options @ ..] => demo::run(&project, options),
        ["test"] => test::run(&project, true),
        ["test", "--no-browser"] => test::run(&project, false),
        ["tidy"] => tidy::run(&project),
        ["book"] => {
            book::install(&project)?;
            book::build(&project)
        }
        ["bench", options @ ..] => bench::run(&project, options),
        ["soak", options @ ..] => soak::run(&project, options),
        _ => bail!("no such task: `{}`\n\n{USAGE}", words.join(" ")),
    }
}
