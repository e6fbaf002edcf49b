//! The licence texts of the crates and libraries that are in the tarball.
//!
//! The texts are read from the sources of the crates that `cargo metadata` lists. Each text is included once, with the
//! names of its crates. cargo-about was rejected: it takes minutes to install, and for a crate without a licence file
//! it uses a template without the copyright line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::project::Project;

/// The prefixes of the names of licence files, in upper case.
const FILE_NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT"];

/// A crate and the texts of its licences.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LicensedCrate {
    name: String,
    version: String,
    /// The licences of the crate as an SPDX expression.
    expression: String,
    texts: BTreeSet<String>,
}

/// The target of the providers, which `isomer ship wasm` puts into an app's file.
const PROVIDER_TARGET: &str = "wasm32-wasip2";

/// The packages of the providers.
const PROVIDERS: [&str; 2] = ["platform-provider", "stores-provider"];

/// The licence of the C library with which the runtime of shipped programs is linked.
const LGPL: &str = include_str!("LGPL-2.1.txt");

/// Returns the licence texts of all crates that are in the tarball: in `isomer`, in the runtime of shipped programs (which
/// has no others), and in the providers. `isomer ship` puts the runtime and the providers into the files that it writes.
///
/// # Errors
/// If a crate has no licence file, and no other crate with the same licence has one.
pub(super) fn of_dependencies(project: &Project, target: &str) -> Result<String> {
    let mut licensed = BTreeSet::new();
    let of_tarball = metadata(project, &project.root.join("Cargo.toml"), target)?;
    for root in ["isomer", "isomer-exe"] {
        for package in dependencies(&of_tarball, root)? {
            licensed.insert(read(package)?);
        }
    }
    let of_providers = metadata(project, &project.root.join("providers/Cargo.toml"), PROVIDER_TARGET)?;
    for root in PROVIDERS {
        for package in dependencies(&of_providers, root)? {
            licensed.insert(read(package)?);
        }
    }
    let mut licensed = Vec::from_iter(licensed);
    share_texts(&mut licensed)?;
    let mut text = render(&licensed);
    text.push_str(&native_libraries(target)?);
    Ok(text)
}

fn metadata(project: &Project, manifest: &Path, target: &str) -> Result<Value> {
    let output = project
        .cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", target, "--manifest-path"])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")
}

/// Returns what is known about the libraries in the tarball that are not crates: SQLite in the providers, and the C library in
/// the runtime of shipped programs, if it is linked statically with glibc.
fn native_libraries(target: &str) -> Result<String> {
    let line = "=".repeat(80);
    let mut text = format!("\n{line}\nSQLite (in the provider of stores)\n\nSQLite is in the public domain.\n");
    if target.ends_with("-linux-gnu") {
        let output = Command::new("ldd").arg("--version").output().context("cannot run `ldd --version`")?;
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        text.push_str(&format!(
            "\n{line}\nThe GNU C Library (in `isomer-runtime`)\n\n\
             `isomer-runtime`, and the programs that `isomer ship exe` makes of it, contain the GNU C Library\n\
             ({version}), which is licensed under the GNU Lesser General Public License, version 2.1.\n\
             Its source is at https://sourceware.org/glibc/. To link the runtime with another version of it, build\n\
             the sources of Isomer on a system with that version: `cargo xtask dist`.\n\n{LGPL}"
        ));
    }
    Ok(text)
}

/// Returns the third-party packages that `root` depends on, except those that only tests need.
fn dependencies<'a>(metadata: &'a Value, root: &str) -> Result<Vec<&'a Value>> {
    let list = |value: &'a Value| value.as_array().map(Vec::as_slice).unwrap_or_default();
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).iter().filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let root_id = packages.iter().find(|(_, package)| package["name"] == root).map(|(id, _)| *id);
    let mut open = vec![root_id.with_context(|| format!("`cargo metadata` lists no package `{root}`"))?];
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).map(|node| list(&node["deps"])).unwrap_or_default() {
            let is_needed = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            open.extend(dependency["pkg"].as_str().filter(|_| is_needed));
        }
    }
    let is_of_others = |package: &&Value| !package["source"].is_null();
    Ok(found.iter().filter_map(|id| packages.get(id).copied()).filter(is_of_others).collect())
}

fn read(package: &Value) -> Result<LicensedCrate> {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let manifest = text("manifest_path");
    let dir = Path::new(&manifest).parent().unwrap_or(Path::new("/"));
    let mut texts = BTreeSet::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && FILE_NAMES.iter().any(|begin| name.starts_with(begin)) {
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            texts.insert(String::from_utf8_lossy(&bytes).replace('\r', "").trim_matches('\n').to_owned());
        }
    }
    Ok(LicensedCrate { name: text("name"), version: text("version"), expression: text("license"), texts })
}

/// Adds to each crate without a licence file the texts of another crate with the same licence. Crates of a repository
/// with several crates are often published without the licence file, which is in the repository's root folder.
///
/// # Errors
/// If no crate with the same licence has a text.
fn share_texts(licensed: &mut [LicensedCrate]) -> Result<()> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for crate_ in licensed.iter().filter(|crate_| !crate_.texts.is_empty()) {
        known.entry(crate_.expression.clone()).or_insert_with(|| crate_.texts.clone());
    }
    for crate_ in licensed.iter_mut().filter(|crate_| crate_.texts.is_empty()) {
        let LicensedCrate { name, version, expression, .. } = &crate_;
        let texts = known.get(expression);
        crate_.texts = texts.cloned().with_context(|| {
            format!("no crate contains the text of `{expression}`, the licence of {name} {version}")
        })?;
    }
    Ok(())
}

/// Renders a list of the crates, followed by each licence text with the names of its crates.
fn render(licensed: &[LicensedCrate]) -> String {
    let mut by_text: BTreeMap<&str, Vec<&LicensedCrate>> = BTreeMap::new();
    let mut sorted: Vec<&LicensedCrate> = licensed.iter().collect();
    sorted.sort();
    let mut out = String::from("Isomer contains these crates, under their licences:\n\n");
    for crate_ in &sorted {
        out.push_str(&format!("{} {}: {}\n", crate_.name, crate_.version, crate_.expression));
        for text in &crate_.texts {
            by_text.entry(text).or_default().push(crate_);
        }
    }
    // The texts are ordered by the first crate that has the text.
    let mut texts: Vec<(&str, Vec<&LicensedCrate>)> = by_text.into_iter().collect();
    texts.sort_by_key(|(text, crates)| (crates.first().copied(), *text));
    for (text, crates) in texts {
        let names: Vec<String> = crates.iter().map(|crate_| format!("{} {}", crate_.name, crate_.version)).collect();
        out.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(80), names.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn licensed(name: &str, expression: &str, texts: &[&str]) -> LicensedCrate {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        LicensedCrate { name: name.to_owned(), version: "1.0.0".to_owned(), expression: expression.to_owned(), texts }
    }

    #[test]
    fn a_crate_without_a_text_gets_that_of_another_crate_with_its_licence() {
        let mut all = [licensed("a", "MIT", &["MIT, a"]), licensed("b", "MIT", &[])];
        share_texts(&mut all).expect("another crate has the text");
        assert_eq!(all[1].texts, all[0].texts);
        let error = share_texts(&mut [licensed("c", "Zlib", &[])]).expect_err("no crate has the text");
        assert_eq!(error.to_string(), "no crate contains the text of `Zlib`, the licence of c 1.0.0");
    }

    #[test]
    fn each_text_is_listed_once_with_all_its_crates() {
        let text = render(&[licensed("b", "MIT", &["same"]), licensed("a", "MIT", &["same", "other"])]);
        assert!(text.contains("a 1.0.0: MIT\nb 1.0.0: MIT\n"), "{text}");
        assert_eq!(text.matches("\nsame\n").count(), 1, "{text}");
        assert!(text.contains("\na 1.0.0, b 1.0.0\n\nsame\n"), "{text}");
    }

    #[test]
    fn the_c_library_of_the_runtime_is_named() {
        let text = native_libraries("x86_64-unknown-linux-gnu").expect("`ldd` runs");
        assert!(text.contains("GNU C Library") && text.contains("GNU LESSER GENERAL PUBLIC LICENSE"), "{text}");
        assert!(text.contains("SQLite is in the public domain"), "{text}");
        assert!(!native_libraries("x86_64-unknown-linux-musl").expect("a text").contains("LESSER"));
    }

    /// A renamed package would be an error only when a release is made.
    #[test]
    fn the_providers_are_packages() {
        let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers");
        let named = ["platform", "stores"].map(|folder| {
            let manifest = std::fs::read_to_string(providers.join(folder).join("Cargo.toml")).expect("a manifest");
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).expect("a name");
            name.trim_matches('"').to_owned()
        });
        assert_eq!(named.each_ref().map(String::as_str), PROVIDERS);
    }

    #[test]
    fn dependencies_of_tests_and_own_crates_are_left_out() {
        let metadata = json!({
            "packages": [
                { "id": "isomer", "name": "isomer", "source": null },
                { "id": "a", "name": "a", "source": "registry" },
                { "id": "b", "name": "b", "source": "registry" },
            ],
            "resolve": { "nodes": [
                { "id": "isomer", "deps": [
                    { "pkg": "a", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "b", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "a", "deps": [] },
            ] },
        });
        let found = dependencies(&metadata, "isomer").expect("the package is listed");
        assert_eq!(found.iter().map(|package| package["name"].as_str()).collect::<Vec<_>>(), [Some("a")]);
    }
}
