//! `cargo xtask test`: everything that must hold before a change goes in.

mod build;
mod guests;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::project::{self, Project, find_program};
use crate::setup::{self, Purpose};
use crate::steps::Steps;
use crate::{book, browser, tidy};

pub(crate) fn run(project: &Project, in_browser: bool) -> Result<()> {
    let mut steps = Steps::default();
    let purpose = if in_browser { Purpose::Test } else { Purpose::Demo };
    steps.run("setup", || setup::run_for(project, purpose));
    steps.run("format", || format(project));
    steps.run("tidy", || tidy::run(project));
    if in_browser {
        steps.run("the documentation as a book", || book::build(project));
    }
    if find_program("cargo-deny").is_some() {
        steps.run("licences and advisories", || {
            project::run(&mut project.cargo(&["deny", "--log-level", "error", "check"]))
        });
    }
    let built = steps.run("build", || build::run(project));
    if let Some(built) = &built {
        steps.run("clippy", || {
            built.lints.iter().for_each(|lint| print!("{lint}"));
            ensure!(built.lints.is_empty(), "{} lints", built.lints.len());
            Ok(())
        });
        steps.run("tests", || project::run(&mut build::test(project)));
        guests::run(project, &mut steps, built);
    } else {
        steps.skip("clippy, tests", "the build failed");
    }
    steps.run("the boutique's logic", || boutique_logic(project));
    match &built {
        Some(built) if in_browser => {
            steps.run("the boutique in a browser", || browser::run(project, &built.isomer));
        }
        _ => {}
    }
    steps.finish()
}

fn format(project: &Project) -> Result<()> {
    for manifest in manifests(project) {
        project::run(&mut project.cargo(&["fmt", "--all", "--check", "--manifest-path", &manifest]))?;
    }
    Ok(())
}

/// The repository's workspaces: the guests' are built by another compiler, so they are their own.
fn manifests(project: &Project) -> Vec<String> {
    ["", "guests", "examples/boutique"]
        .iter()
        .map(|dir| project.root.join(dir).join("Cargo.toml").to_string_lossy().into_owned())
        .collect()
}

/// Unit tests of the example's plain crates, on this machine: the components are a thin layer over them.
fn boutique_logic(project: &Project) -> Result<()> {
    let manifest = project.boutique().join("Cargo.toml");
    let output = project
        .cargo(&["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .output()
        .context("`cargo metadata` cannot be run")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` gives no JSON")?;
    let logic = project.boutique().join("logic");
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_logic =
        |package: &&Value| package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(&logic));
    let mut command = project.cargo(&["test", "--quiet", "--locked", "--no-fail-fast", "--manifest-path"]);
    command.arg(&manifest);
    for package in packages.iter().filter(is_logic) {
        command.args(["--package", package["name"].as_str().context("a package has a name")?]);
    }
    // Beside the workspace's own artifacts, not among them: the two never share a dependency's build.
    command.env("CARGO_TARGET_DIR", project.target.join("boutique"));
    project::run(&mut command)
}
