//! Checks that there are no import cycles: the modules of a crate must form a hierarchy, so that each module can be
//! read after those that it uses.
//!
//! The rule, for every crate of the workspace and every folder of modules in it:
//!
//! - A module and all modules below it are treated as one module. The rule compares the modules of one folder
//!   (siblings): `a` refers to `b` if any file of `a` names an item that a file of `b` defines, by `use` or by a path
//!   that begins with `crate`, `self` or `super`.
//! - A parent's file (`mod.rs`, `lib.rs`, `main.rs`) may use its child modules, and these may use the items that the
//!   parent's file itself defines. An item that the parent only imports or re-exports is attributed to the module that
//!   defines it, so that `use super::Name` cannot hide a reference between siblings.
//! - Code under `#[cfg(test)]` is ignored.
//! - A cycle of references between siblings is refused.
//!
//! `cycles.txt` lists the modules that are still in a cycle. The list may only shrink: an unlisted module in a cycle is
//! a problem, and so is a listed module that is no longer in a cycle.
//!
//! A small parser reads the paths. rust-analyzer as a library was rejected: it would add a minute to the build of this
//! program and would give the same result for this repository.

mod graph;
mod source;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::project::Project;
use graph::{Cycle, Graph, Reference};

/// The file that lists the modules that are still in a cycle, one per line: `crate module`.
const KNOWN: &str = "xtask/cycles.txt";
/// The maximum number of references that an error lists for one cycle. Large cycles have hundreds of references.
const REFERENCES_SHOWN: usize = 40;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut problems = Vec::new();
    let text = project.read(KNOWN)?;
    let known: BTreeSet<String> = entries(&text).collect();
    for package in project.packages() {
        let name = package["name"].as_str().context("`cargo metadata` lists a package without a name")?;
        for root in roots(package) {
            for cycle in Graph::read(&root)?.cycles() {
                let entries = cycle.modules.iter().map(|module| format!("{name} {module}"));
                let new: Vec<String> = entries.clone().filter(|entry| !known.contains(entry)).collect();
                found.extend(entries);
                if !new.is_empty() {
                    problems.push(describe(project, name, &cycle, REFERENCES_SHOWN));
                }
            }
        }
    }
    problems.extend(
        known
            .difference(&found)
            .map(|entry| format!("`{entry}` is no longer in a cycle: remove the line from {KNOWN}")),
    );
    Ok(problems)
}

/// Prints every cycle of a crate with all its references, whether or not it is listed in `cycles.txt`.
pub(super) fn show(project: &Project, crate_name: &str) -> Result<()> {
    let names = [crate_name.to_owned(), format!("isomer-{crate_name}")];
    let package = project
        .packages()
        .iter()
        .find(|package| names.iter().any(|name| package["name"] == name.as_str()))
        .with_context(|| format!("no crate `{crate_name}` in the workspace"))?;
    let mut count = 0;
    for root in roots(package) {
        for cycle in Graph::read(&root)?.cycles() {
            count += 1;
            println!("{}", describe(project, crate_name, &cycle, usize::MAX));
        }
    }
    println!("{crate_name}: {count} cycles");
    Ok(())
}

/// Describes a cycle with the places of at most `shown` of its references.
fn describe(project: &Project, crate_name: &str, Cycle { modules, references }: &Cycle, shown: usize) -> String {
    let mut text = format!("crate `{crate_name}`: these modules form an import cycle: {}", modules.join(", "));
    for Reference { from, to, file, line, path } in references.iter().take(shown) {
        let file = file.strip_prefix(&project.root).unwrap_or(file);
        text.push_str(&format!("\n    {from} → {to}: {}:{line} `{path}`", file.display()));
    }
    if let Some(more @ 1..) = references.len().checked_sub(shown) {
        text.push_str(&format!(
            "\n    and {more} more references; `cargo xtask tidy --cycles CRATE` prints a crate's cycles"
        ));
    }
    text
}

/// Returns the root file of a package's library, and that of each of its programs.
fn roots(package: &Value) -> Vec<PathBuf> {
    let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_product = |target: &&Value| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib" || kind == "bin"))
    };
    targets
        .iter()
        .filter(is_product)
        .filter_map(|target| target["src_path"].as_str())
        .map(|path| Path::new(path).to_owned())
        .collect()
}

fn entries(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned)
}
