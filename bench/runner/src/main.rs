//! The program that `cargo xtask bench` and `cargo xtask soak` start: it runs the benchmarks and the soak.
//!
//! The program is separate from `xtask`, so that the first `cargo xtask demo` compiles neither an asynchronous runtime
//! nor a client of the admin API.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod benchmarks;
mod boutique;
mod files;
mod fused;
mod hello;
mod http;
mod lab;
mod load;
mod needs;
mod node;
mod options;
mod report;
mod results;
mod seam;
mod server;
mod soak;
mod start;
mod telemetry;

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::project::Project;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let project = Project::find()?;
    match arguments {
        ["bench", options @ ..] => benchmarks::run(&project, options),
        ["soak", options @ ..] => soak::run(&project, options),
        ["setup"] => needs::provide_all(&project),
        _ => bail!(
            "do not run this program directly: use `cargo xtask bench`, `cargo xtask soak` or `cargo xtask setup --for bench`"
        ),
    }
}
