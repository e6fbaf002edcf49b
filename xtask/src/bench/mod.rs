//! `cargo xtask bench`: which benchmarks there are, and running those that are asked for.

use anyhow::{Result, bail};

use crate::project::Project;
use crate::setup::{self, Purpose};

/// A benchmark: its name and what it measures.
struct Bench {
    name: &'static str,
    run: fn(&Project) -> Result<()>,
}

/// All of them, in the order in which they run.
const BENCHES: &[Bench] = &[];

pub(crate) fn run(project: &Project, names: &[&str]) -> Result<()> {
    let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no such benchmark: `{unknown}` (there are: {})", known.join(", "));
    }
    setup::run_for(project, Purpose::Bench)?;
    for bench in BENCHES.iter().filter(|bench| names.is_empty() || names.contains(&bench.name)) {
        println!("\n── {}", bench.name);
        (bench.run)(project)?;
    }
    Ok(())
}
