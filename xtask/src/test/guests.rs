//! The tests that use guests, once more with the guests that the other toolchain makes.
//!
//! Guests can be made by the default Rust toolchain with rustup's target, or by the one that is put together from Debian's
//! packages; they differ in their C library and in what they import. All tests run with the first of them that is installed. Those
//! that use guests run with the other one, too:
//!
//! - where it is installed, always;
//! - where it is not, on continuous integration (`CI` is set), which installs it. Where the machine does not allow that (no Debian,
//!   no root, no network), the step is skipped, and the summary says so; an installation that fails otherwise is a failed step;
//! - never where `ISOMER_GUEST_TOOLCHAIN` chooses one.

use std::path::Path;

use anyhow::{Context as _, Result};
use isomer_toolchain::{GuestToolchain, Origin, ToolchainError};

use super::build::{self, Built, TestProgram};
use crate::project::{self, Project};
use crate::setup;
use crate::steps::Steps;

/// What the sources of a test name that uses guests: the test guests, the example shop, or building an app at all.
const SIGNS: [&str; 3] = ["isomer_test_guests::", "examples/boutique", "build_app("];

/// Runs them with each toolchain that [`GuestToolchain::find`] does not choose.
pub(crate) fn run(project: &Project, steps: &mut Steps, built: &Built) {
    // An error has failed the tests already.
    let (Ok(None), Ok(first)) = (Origin::chosen(), GuestToolchain::find()) else { return };
    for origin in Origin::ALL.into_iter().filter(|origin| *origin != first.origin()) {
        let name = format!("tests of guests by {}", origin.name());
        match find(origin, steps) {
            Ok(toolchain) => {
                steps.run(&name, || {
                    println!("guest toolchain: {}", toolchain.describe());
                    with(project, origin, &built.tests)
                });
            }
            Err(reason) => steps.skip(&name, reason),
        }
    }
}

/// The toolchain, installed if this is continuous integration; else why there is none.
fn find(origin: Origin, steps: &mut Steps) -> Result<GuestToolchain, String> {
    let name = origin.name();
    match GuestToolchain::find_from(origin) {
        Err(ToolchainError::NotInstalled { .. }) if is_ci() => {}
        Err(ToolchainError::NotInstalled { .. }) => {
            return Err(format!("not installed here; `ISOMER_GUEST_TOOLCHAIN={name} cargo xtask setup` installs it"));
        }
        found => return found.map_err(|error| error.to_string()),
    }
    match GuestToolchain::find_or_install_from(origin, &mut setup::show_progress) {
        Err(error) if error.is_for_want_of_means() => Err(format!("cannot be installed here: {error}")),
        result => steps
            .run(&format!("guest toolchain by {name}"), || result.context("it cannot be installed"))
            .ok_or_else(|| "its installation failed".to_owned()),
    }
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

fn with(project: &Project, origin: Origin, tests: &[TestProgram]) -> Result<()> {
    let mut command = build::test(project);
    for target in using_guests(project, tests)? {
        command.args(["--test", &target]);
    }
    command.env("ISOMER_GUEST_TOOLCHAIN", origin.name());
    project::run(&mut command)
}

/// The names of the integration tests that use guests: the compiler notes which files each of them is made of.
fn using_guests(project: &Project, tests: &[TestProgram]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for TestProgram { target, kind, executable } in tests {
        if kind == "test" && uses_guests(&project.root, &executable.with_extension("d"))? {
            names.push(target.clone());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Does one of the files that a dep-info file lists bear a sign of guests? Its paths begin at the workspace's root.
fn uses_guests(root: &Path, dep_info: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(dep_info).with_context(|| format!("`{}` cannot be read", dep_info.display()))?;
    // The rules without sources, one for each source: `path:`.
    let sources = text.lines().filter_map(|line| line.strip_suffix(':'));
    Ok(sources.map(|path| path.replace("\\ ", " ")).any(|path| {
        let source = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        SIGNS.iter().any(|sign| source.contains(sign))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_uses_guests_if_one_of_its_sources_does() {
        let here = env!("CARGO_MANIFEST_DIR");
        let dir = std::env::temp_dir().join(format!("isomer-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let dep_info = dir.join("test-1.d");
        let is_found = |source: &str| {
            let rules = format!("/t/test-1: {source}\n\n{source}:\n\n# env-dep:CARGO_MANIFEST_DIR=/x\n");
            std::fs::write(&dep_info, rules).expect("written");
            uses_guests(Path::new(here), &dep_info).expect("it is there")
        };
        assert!(is_found("src/test/guests.rs"), "it names the signs");
        assert!(!is_found("src/steps.rs"));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
