//! `cargo xtask soak`: runs a node under good and hostile tenants for a long time, while apps are deployed.
//!
//! Unlike a benchmark, the soak can fail: if a response to a good tenant is wrong or missing, if a change by an
//! administrator fails, or if the node's resource usage grows.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use isomer_bench_node::node::Launch;
use isomer_bench_node::soak::{self, Settings};

use xtask::project::{self, Project};

use crate::files;

pub(crate) const USAGE: &str = "soak [--long] [--seed N] [--requests N] [--isomer PROGRAM] [--built]";

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let mut long = false;
    let mut seed = None;
    let mut requests = None;
    let mut isomer = None;
    let mut built = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("`{argument}` needs a value"));
        match *argument {
            "--long" => long = true,
            "--built" => built = true,
            "--seed" => seed = Some(value()?.parse().context("`--seed` must be a number")?),
            "--requests" => requests = Some(value()?.parse().context("`--requests` must be a number")?),
            "--isomer" => isomer = Some(std::path::absolute(value()?)?),
            unknown => anyhow::bail!("unknown option: `{unknown}`\n\nUsage: cargo xtask {USAGE}"),
        }
    }
    let program: PathBuf = match isomer {
        Some(program) => program,
        None => {
            if !built {
                project::run(&mut project.cargo(&["build", "--release", "--locked", "--package", "isomer"]))?;
            }
            project.target.join("release/isomer")
        }
    };
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut settings = if long { Settings::long(seed) } else { Settings::short(seed) };
    if let Some(requests) = requests {
        settings.requests = requests;
    }
    let dir = project.target.join("soak");
    files::make_empty_dir(&dir)?;
    println!("seed {seed}; the node's log: {}", dir.join("node.log").display());
    let node = Launch::new(program, &dir).start()?;
    let summary = isomer_bench_node::block_on(soak::run(&node, &settings, &mut |line| println!("{line}")))?;
    println!("\n{}", summary.report());
    node.stop(std::time::Duration::from_secs(60))?;
    let complaints = summary.complaints();
    ensure!(
        complaints.is_empty(),
        "the soak failed ({} failures); to repeat it, use `--seed {seed}`",
        complaints.len()
    );
    Ok(())
}
