//! `cargo xtask test`: runs all checks that a change must pass.

mod build;
mod guests;
mod programs;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::project::{self, Project, find_program};
use crate::setup::{self, Purpose};
use crate::steps::Steps;
use crate::{book, browser, tidy};
use programs::{Settings, TestRun};

/// The command line of `cargo xtask test`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    in_browser: bool,
    /// Whether to run the soaks and random tests at their full length.
    long: bool,
    /// The number of test programs that run concurrently.
    jobs: usize,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Self { in_browser: true, long: false, jobs: processors };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--no-browser" => options.in_browser = false,
                "--long" => options.long = true,
                "--jobs" => {
                    let jobs = rest.next().and_then(|jobs| jobs.parse().ok()).filter(|jobs| *jobs > 0);
                    options.jobs = jobs.context("`--jobs` needs a number of at least 1")?;
                }
                unknown => {
                    bail!("unknown option: `{unknown}`\n\nUsage: cargo xtask test [--no-browser] [--long] [--jobs N]")
                }
            }
        }
        Ok(options)
    }
}

pub(crate) fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let Options { in_browser, long, jobs } = Options::parse(arguments)?;
    // Tests that have a short and a long form read this variable.
    let variables = long.then(|| ("ISOMER_LONG", "1".to_owned())).into_iter().collect();
    let settings = Settings { jobs, variables };
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
            ensure!(built.lints.is_empty(), "the compiler and clippy report {} lints", built.lints.len());
            Ok(())
        });
        let repeated = guests::runs(project, &mut steps, &built.tests);
        steps.run("tests", || {
            let mut tests: Vec<_> = built.tests.iter().map(|program| TestRun { program, guests: None }).collect();
            tests.extend(repeated?);
            programs::run(project, &tests, &settings)
        });
        steps.run("tests in the documentation", || documentation_tests(project));
        if long {
            steps.run("links in the documentation of the crates", || crate_documentation(project));
        }
    } else {
        steps.skip("clippy, tests", "the build failed");
    }
    // In the build of all tests, Cargo adds features that this program does not have by itself, above all the compiler.
    steps.run("the runtime of shipped programs", || {
        project::run(&mut project.cargo(&["check", "--locked", "--package", "isomer-exe"]))
    });
    steps.run("the boutique's logic", || boutique_logic(project));
    match &built {
        Some(built) if in_browser => {
            steps.run("the boutique in a browser", || browser::run(project, &built.isomer));
        }
        _ => {}
    }
    steps.finish()
}

/// Builds the documentation of all crates, with their private items, and fails if a link leads nowhere. Rustdoc needs
/// every dependency compiled as `cargo check` does it, which takes minutes after a build of the tests, so only a long
/// run does this.
fn crate_documentation(project: &Project) -> Result<()> {
    let mut command = project.cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    // The documentation contains private items, so a link from public documentation to a private item is valid.
    command.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links");
    project::run(&mut command)
}

/// Runs the examples in doc comments. `rustdoc` compiles a crate to find its examples, so only crates with an example
/// are passed to it.
fn documentation_tests(project: &Project) -> Result<()> {
    let mut command = build::cargo_test(project);
    command.arg("--doc");
    let mut count = 0;
    for package in project.packages() {
        let manifest =
            package["manifest_path"].as_str().context("`cargo metadata` lists a package without a manifest")?;
        let sources = Path::new(manifest).with_file_name("src");
        if has_example(&sources)? {
            command.args([
                "--package",
                package["name"].as_str().context("`cargo metadata` lists a package without a name")?,
            ]);
            count += 1;
        }
    }
    match count {
        0 => Ok(()),
        _ => project::run(&mut command),
    }
}

/// Returns whether a doc comment of a file in `dir` or its subfolders has a code block that is not marked as text.
fn has_example(dir: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))? {
        let path = entry?.path();
        let is_found = match path.is_dir() {
            true => has_example(&path)?,
            false => {
                path.extension().is_some_and(|extension| extension == "rs") && {
                    let text = std::fs::read_to_string(&path)?;
                    let lines = text.lines().map(str::trim_start);
                    let comments =
                        lines.filter_map(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix("///")));
                    // A fence begins a code block, the next fence ends it, and so on. Only the fences that begin a
                    // block name its language.
                    comments
                        .map(str::trim_start)
                        .filter(|line| line.starts_with("```"))
                        .step_by(2)
                        .any(|line| line != "```text")
                }
            }
        };
        if is_found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn format(project: &Project) -> Result<()> {
    for manifest in manifests(project) {
        project::run(&mut project.cargo(&["fmt", "--all", "--check", "--manifest-path", &manifest]))?;
    }
    Ok(())
}

/// Returns the `Cargo.toml` of each workspace of the repository. Guests have their own workspaces, because another
/// toolchain builds them.
fn manifests(project: &Project) -> Vec<String> {
    ["", "guests", "providers", "examples/boutique"]
        .iter()
        .map(|dir| project.root.join(dir).join("Cargo.toml").to_string_lossy().into_owned())
        .collect()
}

/// Runs the unit tests of the example's plain Rust crates on this machine. The example's components are a thin layer
/// over these crates.
fn boutique_logic(project: &Project) -> Result<()> {
    let manifest = project.boutique().join("Cargo.toml");
    let output = project
        .cargo(&["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .output()
        .context("cannot run `cargo metadata`")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
    let logic = project.boutique().join("logic");
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_logic =
        |package: &&Value| package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(&logic));
    let mut command = project.cargo(&["test", "--quiet", "--locked", "--no-fail-fast", "--manifest-path"]);
    command.arg(&manifest);
    for package in packages.iter().filter(is_logic) {
        command
            .args(["--package", package["name"].as_str().context("`cargo metadata` lists a package without a name")?]);
    }
    // The artifacts are in a separate target folder, because this build and the workspace can share no artifacts.
    command.env("CARGO_TARGET_DIR", project.target.join("boutique"));
    project::run(&mut command)
}
