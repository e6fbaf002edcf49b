//! Builds all tests, and lints them at the same time.
//!
//! `cargo clippy` is `cargo check` with another compiler for the workspace's own crates. Checked and compiled artifacts
//! are not shared, so running `cargo clippy` in addition to the tests compiles every dependency twice, which takes five
//! minutes on two cores. Here the tests themselves are compiled by clippy's driver, which is the same compiler with
//! more lints. Cargo stores the artifacts of clippy's driver separately from those that `rustc` makes of the same
//! crates, and both use the same compiled dependencies.
//!
//! All lints are capped at warnings, so that a lint does not fail the build. The tests then run, and the lints are
//! reported as a separate failed step.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::project::{self, Project, find_program};

/// The result of the build.
pub(crate) struct BuildResult {
    /// The warnings of clippy and the compiler about the workspace's crates, as text, without duplicates.
    pub lints: Vec<String>,
    /// All test programs.
    pub tests: Vec<TestProgram>,
    /// The path of the `isomer` program that the tests run.
    pub isomer: PathBuf,
}

/// A compiled test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// The package's name, for example `isomer-node`.
    pub package: String,
    /// The target's name, for example `deploy` for `tests/deploy/main.rs`.
    pub target: String,
    /// The target's kind: `test`, `lib`, `bin` or `example`.
    pub kind: String,
    /// The path of the compiled program.
    pub executable: PathBuf,
    /// The package's folder, in which the program runs.
    pub dir: PathBuf,
}

impl TestProgram {
    /// Returns a unique name: `isomer-node/deploy` for a test target, `isomer-node/lib` for the unit tests of a
    /// library, and `isomer/bin-isomer` for the unit tests of a program.
    pub(crate) fn id(&self) -> String {
        match self.kind.as_str() {
            "lib" => format!("{}/lib", self.package),
            "test" => format!("{}/{}", self.package, self.target),
            kind => format!("{}/{kind}-{}", self.package, self.target),
        }
    }

    /// Returns the command that runs only this test program.
    pub(crate) fn command_line(&self) -> String {
        let target = match self.kind.as_str() {
            "lib" => "--lib".to_owned(),
            kind => format!("--{kind} {}", self.target),
        };
        format!("cargo t --package {} {target}", self.package)
    }
}

/// Builds all test programs.
pub(crate) fn run(project: &Project) -> Result<BuildResult> {
    let is_terminal = std::io::stderr().is_terminal();
    let format = if is_terminal { "json-diagnostic-rendered-ansi" } else { "json" };
    let mut command = cargo_test(project);
    command.args(["--workspace", "--no-run", "--message-format", format]);
    let line = project::show(&command);
    println!("$ {line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{line}`"))?;
    let stdout = child.stdout.take().context("stdout is not a pipe")?;
    let mut messages = Messages::default();
    for line in BufReader::new(stdout).lines() {
        messages.take(&line.context("cannot read the output of cargo")?);
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    let isomer = messages.isomer.context("the build did not produce `isomer`")?;
    Ok(BuildResult { lints: messages.lints, tests: messages.tests, isomer })
}

/// Returns a `cargo test` command with the same compiler as [`run`]. The caller adds the selection of tests.
pub(crate) fn cargo_test(project: &Project) -> Command {
    let mut command = project.cargo(&["test", "--locked", "--no-fail-fast"]);
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    command.env("RUSTC_WORKSPACE_WRAPPER", clippy_driver(project));
    // Clippy's driver reads this variable, and tells cargo to rebuild the crate if its value changes.
    command.env("CLIPPY_ARGS", "--cap-lints=warn__CLIPPY_HACKERY__");
    command
}

/// Returns the path of the clippy driver of the compiler in use. Rustup's proxy with that name would also work, but it
/// would start rustup for every crate.
fn clippy_driver(project: &Project) -> PathBuf {
    let sysroot = project.command("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()));
    let driver = sysroot.map(|sysroot| sysroot.join("bin/clippy-driver")).ok().filter(|driver| driver.is_file());
    driver.or_else(|| find_program("clippy-driver")).unwrap_or_else(|| "clippy-driver".into())
}

/// The data that is collected from cargo's JSON messages.
#[derive(Default)]
struct Messages {
    lints: Vec<String>,
    seen: BTreeSet<String>,
    tests: Vec<TestProgram>,
    isomer: Option<PathBuf>,
}

impl Messages {
    fn take(&mut self, line: &str) {
        // A line that is not JSON was not written by cargo.
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        match message["reason"].as_str() {
            Some("compiler-message") => self.diagnostic(&message["message"]),
            Some("compiler-artifact") => self.artifact(&message),
            _ => {}
        }
    }

    fn diagnostic(&mut self, diagnostic: &Value) {
        let rendered = diagnostic["rendered"].as_str().unwrap_or_default();
        let has_place = diagnostic["spans"].as_array().is_some_and(|spans| !spans.is_empty());
        // Duplicates are dropped, because the same file is compiled for several programs. A diagnostic without a code
        // and without a location is also dropped: it only states the number of other diagnostics.
        if !has_place && diagnostic["code"].is_null() || !self.seen.insert(rendered.to_owned()) {
            return;
        }
        match diagnostic["level"].as_str() {
            Some("warning") => self.lints.push(rendered.to_owned()),
            _ => eprint!("{rendered}"),
        }
    }

    fn artifact(&mut self, artifact: &Value) {
        let Some(executable) = artifact["executable"].as_str().map(PathBuf::from) else { return };
        let target = artifact["target"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = artifact["target"]["kind"][0].as_str().unwrap_or_default().to_owned();
        if artifact["profile"]["test"] == true {
            let manifest = Path::new(artifact["manifest_path"].as_str().unwrap_or_default());
            let dir = manifest.parent().unwrap_or(Path::new("")).to_owned();
            let package = package_name(artifact["package_id"].as_str().unwrap_or_default()).to_owned();
            self.tests.push(TestProgram { package, target, kind, executable, dir });
        } else if (target.as_str(), kind.as_str()) == ("isomer", "bin") {
            self.isomer = Some(executable);
        }
    }
}

/// Returns the package's name in a package ID. The ID is `path+file:///src/isomer/crates/node#isomer-node@0.1.0`, or
/// `path+file:///src/isomer/crates/isomer-node#0.1.0` if the folder has the package's name.
fn package_name(id: &str) -> &str {
    let (path, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_by_their_ids() {
        assert_eq!(package_name("path+file:///src/isomer/crates/node#isomer-node@0.1.0"), "isomer-node");
        assert_eq!(package_name("path+file:///src/isomer/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn lints_are_recorded_once_and_programs_are_found() {
        let mut messages = Messages::default();
        let lint = r#"{"reason":"compiler-message","message":{"level":"warning","code":{"code":"clippy::unwrap_used"},
            "spans":[{}],"rendered":"warning: used `unwrap()`\n"}}"#
            .replace('\n', "");
        messages.take(&lint);
        messages.take(&lint);
        let count = r#"{"level":"warning","code":null,"spans":[],"rendered":"warning: 1 warning emitted\n"}"#;
        messages.take(&format!(r#"{{"reason":"compiler-message","message":{count}}}"#));
        messages.take("not JSON");
        let artifact = |kind: &str, name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},
                "profile":{{"test":{test}}},"executable":{executable},
                "package_id":"path+file:///w/crates/node#isomer-node@0.1.0","manifest_path":"/w/crates/node/Cargo.toml"}}"#
            )
        };
        messages.take(&artifact("lib", "isomer_node", false, "null"));
        messages.take(&artifact("bin", "isomer", false, r#""/t/debug/isomer""#));
        messages.take(&artifact("test", "deploy", true, r#""/t/debug/deps/deploy-1""#));
        assert_eq!(messages.lints, ["warning: used `unwrap()`\n"]);
        assert_eq!(messages.isomer, Some("/t/debug/isomer".into()));
        let deploy = TestProgram {
            package: "isomer-node".to_owned(),
            dir: "/w/crates/node".into(),
            target: "deploy".to_owned(),
            kind: "test".to_owned(),
            executable: "/t/debug/deps/deploy-1".into(),
        };
        assert_eq!(deploy.id(), "isomer-node/deploy");
        assert_eq!(deploy.command_line(), "cargo t --package isomer-node --test deploy");
        assert_eq!(messages.tests, [deploy]);
    }
}
