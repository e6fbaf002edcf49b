//! Finds the environment variables that Cargo's builds read: the variables in `env!` and `option_env!`, and those that
//! build scripts name.
//!
//! The compiler writes the variables of sources into its dep-info files (`# env-dep:NAME=VALUE`). Cargo keeps the
//! output of each build script, which names the script's variables (`cargo::rerun-if-env-changed=NAME`). All such files
//! of a target folder are read, including those of packages that only other components use. A variable that does not
//! matter can cause an unnecessary build; but a variable that was missed would leave an old value in a component.
//! Variables that Cargo sets are left out, because they depend only on files that are inputs.
//!
//! A record contains digests of the values, because a value may be secret.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Environment variables by name, each with the digest of its value, or `None` if it is not set.
pub(crate) type Variables = BTreeMap<String, Option<String>>;

/// The maximum number of files in a target folder that are read. Variables that only further files name are missed.
const FILES_MAX: usize = 10_000;

/// The maximum size in bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// In a dep-info file, a line with one of these prefixes names an environment variable.
const OF_SOURCES: [&str; 1] = ["# env-dep:"];

/// In the output of a build script, a line with one of these prefixes names an environment variable.
const OF_BUILD_SCRIPTS: [&str; 2] = ["cargo:rerun-if-env-changed=", "cargo::rerun-if-env-changed="];

/// Returns the variables that artifacts in `folder` depend on, with their current values. `folder` is the folder of a
/// profile in Cargo's target folder.
pub(crate) fn of_artifacts(folder: &Path) -> Variables {
    let mut names = Vec::new();
    for path in entries(&folder.join("deps")).filter(|path| path.extension().is_some_and(|it| it == "d")) {
        names.extend(named_in(&read(&path), &OF_SOURCES));
    }
    for path in entries(&folder.join("build")) {
        names.extend(named_in(&read(&path.join("output")), &OF_BUILD_SCRIPTS));
    }
    names.into_iter().map(|name| (name.clone(), current(&name))).collect()
}

/// Returns whether all variables have the same values as when they were read.
pub(crate) fn are_unchanged(variables: &Variables) -> bool {
    variables.iter().all(|(name, digest)| current(name) == *digest)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(FILES_MAX)
}

/// Returns the text of a file, or an empty string if the file is too large, cannot be read or is not UTF-8.
fn read(path: &Path) -> String {
    let is_small = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES_MAX);
    if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

fn named_in(text: &str, signs: &[&str]) -> Vec<String> {
    let named = text.lines().filter_map(|line| signs.iter().find_map(|sign| line.strip_prefix(sign)));
    let names = named.map(|rest| rest.split('=').next().unwrap_or_default().trim());
    names.filter(|name| !name.is_empty() && !is_cargos(name)).map(str::to_owned).collect()
}

/// Returns whether Cargo itself sets the variable for compilers and build scripts.
fn is_cargos(name: &str) -> bool {
    name.starts_with("CARGO") || name == "OUT_DIR"
}

fn current(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    Some(Sha256::digest(value.as_encoded_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_compilers_and_build_scripts_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in [
            (
                "deps/a-1.d",
                "a: src/lib.rs\n\n# env-dep:CARGO_PKG_VERSION=1.0.0\n# env-dep:HOME=/x=y\n# env-dep:ISOMER_NO_SUCH\n",
            ),
            ("deps/a-1.rlib", "# env-dep:NOT_READ=1\n"),
            ("build/b-2/output", "cargo:rerun-if-changed=x\ncargo::rerun-if-env-changed=ISOMER_NONE\n"),
            ("build/b-2/stderr", "cargo:rerun-if-env-changed=NOT_READ\n"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let mut variables = of_artifacts(dir.path());
        assert_eq!(variables.keys().collect::<Vec<_>>(), ["HOME", "ISOMER_NONE", "ISOMER_NO_SUCH"]);
        assert_eq!(variables["ISOMER_NONE"], None);
        assert!(are_unchanged(&variables));
        variables.insert("ISOMER_NONE".to_owned(), Some(String::new()));
        assert!(!are_unchanged(&variables));
        assert!(of_artifacts(&dir.path().join("missing")).is_empty());
    }
}
