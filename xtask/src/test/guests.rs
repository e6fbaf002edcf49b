//! Runs the tests whose result depends on the guests a second time, with guests that another toolchain has built.
//!
//! Guests can be built by the default Rust toolchain with rustup's target, or by the toolchain that is assembled from
//! Debian's packages. The guests differ in their C library and in their imports. All tests run with the first of these
//! toolchains that is installed. The tests whose result depends on the guest are repeated with the other toolchain:
//!
//! - always, if it is installed;
//! - on continuous integration (`CI` is set), after installing it. If the machine does not allow the installation (no
//!   Debian, no root, no network), the repetition is skipped, and the summary shows the reason. If the installation
//!   fails for another reason, the step fails;
//! - never, if `ISOMER_GUEST_TOOLCHAIN` selects a toolchain.

use std::path::Path;

use anyhow::{Context as _, Result};
use isomer_toolchain::{GuestToolchain, SystemPackages, ToolchainError, ToolchainOrigin};

use super::build::TestProgram;
use super::programs::TestRun;
use crate::project::Project;
use crate::setup;
use crate::steps::Steps;

/// A source of a test program that contains one of these texts uses guests: the test guests, the example shop, or an
/// app that the test builds.
const SIGNS: [&str; 3] = ["isomer_test_guests::", "examples/boutique", "build_app("];

/// The text in the header of a test program whose result does not depend on the guests: for example, a node deploys,
/// restarts and evicts every guest in the same way. The text is split, so that this file does not contain it.
const ANY_GUEST: &str = concat!("any guest ", "toolchain");

/// Returns the repeated runs: for each toolchain other than the one that [`GuestToolchain::find`] chooses, a run of
/// every test program whose result depends on the guests.
pub(crate) fn runs<'a>(project: &Project, steps: &mut Steps, tests: &'a [TestProgram]) -> Result<Vec<TestRun<'a>>> {
    let mut runs = Vec::new();
    // If one of these functions returns an error, the run with the default toolchain fails and reports it.
    let (Ok(None), Ok(first)) = (ToolchainOrigin::chosen(), GuestToolchain::find()) else { return Ok(runs) };
    for origin in ToolchainOrigin::ALL.into_iter().filter(|origin| *origin != first.origin()) {
        match find(origin, steps) {
            Ok(toolchain) => {
                println!("guest toolchain: {}", toolchain.describe());
                let programs = depending_on_guests(project, tests)?;
                runs.extend(programs.into_iter().map(|program| TestRun { program, guests: Some(origin) }));
            }
            Err(reason) => steps.skip(&format!("tests with guests built by {}", origin.name()), reason),
        }
    }
    Ok(runs)
}

/// Returns the toolchain of the given origin. On continuous integration, installs it if it is missing.
///
/// # Errors
/// If the toolchain is missing or unusable. The error states the reason.
fn find(origin: ToolchainOrigin, steps: &mut Steps) -> Result<GuestToolchain, String> {
    let name = origin.name();
    match GuestToolchain::find_from(origin) {
        Err(ToolchainError::NotInstalled { .. }) if is_ci() => {}
        Err(ToolchainError::NotInstalled { .. }) => {
            return Err(format!("not installed here; `ISOMER_GUEST_TOOLCHAIN={name} cargo xtask setup` installs it"));
        }
        found => return found.map_err(|error| error.to_string()),
    }
    match GuestToolchain::find_or_install_from(origin, SystemPackages::Install, &mut setup::show_progress) {
        Err(error) if error.is_unsupported_machine() => Err(format!("cannot be installed here: {error}")),
        result => steps
            .run(&format!("guest toolchain of {name}"), || result.context("cannot install the guest toolchain"))
            .ok_or_else(|| "the installation of the toolchain failed".to_owned()),
    }
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

/// Returns the test programs whose result depends on the guest toolchain.
fn depending_on_guests<'a>(project: &Project, tests: &'a [TestProgram]) -> Result<Vec<&'a TestProgram>> {
    let mut programs = Vec::new();
    for program in tests.iter().filter(|program| program.kind == "test") {
        if depends_on_guests(&project.root, &program.executable.with_extension("d"))? {
            programs.push(program);
        }
    }
    Ok(programs)
}

/// Returns whether at least one of a program's sources uses guests and no source contains [`ANY_GUEST`]. `dep_info` is
/// the file in which the compiler lists the program's sources, relative to the workspace's root.
fn depends_on_guests(root: &Path, dep_info: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(dep_info).with_context(|| format!("cannot read `{}`", dep_info.display()))?;
    // For each source, the dep-info file has a rule without prerequisites: `path:`.
    let paths = text.lines().filter_map(|line| line.strip_suffix(':')).map(|path| path.replace("\\ ", " "));
    let sources: Vec<String> = paths.map(|path| std::fs::read_to_string(root.join(path)).unwrap_or_default()).collect();
    let has = |sign: &str| sources.iter().any(|source| source.contains(sign));
    Ok(SIGNS.iter().any(|sign| has(sign)) && !has(ANY_GUEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_depends_on_guests_if_one_of_its_sources_does() {
        let dir = std::env::temp_dir().join(format!("isomer-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let dep_info = dir.join("test-1.d");
        let is_found = |text: &str| {
            std::fs::write(dir.join("a.rs"), text).expect("written");
            std::fs::write(&dep_info, "/t/test-1: a.rs\n\na.rs:\n\n# env-dep:CARGO_MANIFEST_DIR=/x\n")
                .expect("written");
            depends_on_guests(&dir, &dep_info).expect("the dep-info file exists")
        };
        assert!(is_found(SIGNS[0]));
        assert!(!is_found("no sign"));
        assert!(!is_found(&format!("//! Guests built with {ANY_GUEST} are sufficient.\n{}", SIGNS[0])));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
