//! Checks the dependencies between crates. `layers.txt` lists every allowed dependency; ARCHITECTURE.md gives the
//! reasons.
//!
//! The list is exact: a dependency that is not listed is a problem, and so is a listed dependency that does not exist.
//! A list that is only an upper bound was rejected: it contained dependencies that did not exist, so that each crate's
//! `Cargo.toml` gave more information than the list.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::project::Project;

/// The file with the allowed dependencies, one per line: `crate -> crate`. If the second crate of a line is a
/// third-party crate, only crates with such a line may depend on it.
const EDGES: &str = "xtask/layers.txt";

/// Pure crates: they must not use an asynchronous runtime, the engine, a clock, or a file that was not passed in.
const PURE: &[&str] = &[
    "isomer-bench-workload",
    "isomer-diagnostics",
    "isomer-display",
    "isomer-ids",
    "isomer-manifest",
    "isomer-plan",
    "isomer-wire",
];
/// Crates that must not depend on the engine, not even indirectly: `isomer plan`, `build` and `test` do not need it.
const ENGINE_FREE: &[&str] = &["isomer-app-test", "isomer-project", "isomer-toolchain"];
const ENGINE: &str = "isomer-runtime";

const IMPURE: &[&str] = &["cap-std", "libc", "tempfile", "tokio", "tracing", "wasmtime"];

/// A dependency: the first crate depends on the second one.
type Edge<'a> = (&'a str, &'a str);

/// Compares the dependencies of the workspace's packages with `layers.txt`. Returns the problems.
pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    Ok(check_edges(project.packages(), &project.read(EDGES)?))
}

/// Compares the dependencies of `packages`, as `cargo metadata --no-deps` lists them, with the text of `layers.txt`.
fn check_edges(packages: &[Value], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed: BTreeSet<Edge<'_>> = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(" -> ") {
            Some(edge) if listed.insert(edge) => {}
            Some(_) => problems.push(format!("{EDGES}: `{line}` is listed twice")),
            None => problems.push(format!("{EDGES}: `{line}` is not `CRATE -> CRATE`")),
        }
    }
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let restricted: BTreeSet<&str> = listed.iter().map(|(_, to)| *to).filter(|to| !names.contains(to)).collect();
    let mut found: BTreeSet<Edge<'_>> = BTreeSet::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in dependencies(package) {
            let edge = (name, dependency);
            let is_checked = names.contains(dependency) || restricted.contains(dependency);
            if is_checked && found.insert(edge) && !listed.contains(&edge) {
                problems.push(format!(
                    "crate `{name}` must not depend on `{dependency}`: {EDGES} does not list this dependency"
                ));
            }
            if PURE.contains(&name) && IMPURE.contains(&dependency) {
                problems.push(format!("crate `{name}` is pure and must not depend on `{dependency}`"));
            }
        }
    }
    let reaching = ENGINE_FREE.iter().filter(|name| reaches(&found, name, ENGINE));
    problems.extend(reaching.map(|name| format!("crate `{name}` must not depend on `{ENGINE}`, not even indirectly")));
    for (from, to) in listed.difference(&found) {
        problems.push(format!("{EDGES} lists `{from} -> {to}`, and there is no such dependency: remove the line"));
    }
    problems.extend(
        PURE.iter()
            .filter(|name| !names.contains(*name))
            .map(|name| format!("xtask/src/tidy/layers.rs: there is no crate `{name}`")),
    );
    problems
}

/// Returns whether `from` depends on `goal`, directly or indirectly.
fn reaches(edges: &BTreeSet<Edge<'_>>, from: &str, goal: &str) -> bool {
    // The recursion ends, because dependencies between crates have no cycles.
    edges.iter().filter(|(crate_name, _)| *crate_name == from).any(|(_, to)| *to == goal || reaches(edges, to, goal))
}

/// Returns the names of a package's dependencies, except those that only its tests use: tests may use any crate.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = all.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
    counts.filter_map(|dependency| dependency["name"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the problems of a workspace that consists of all pure crates and one other crate, and in which `name`
    /// depends on `dependency`.
    fn found(name: &str, dependency: &str, kind: Option<&str>, edges: &str) -> String {
        let packages: Vec<Value> = PURE
            .iter()
            .chain(&["isomer-front"])
            .map(|package| {
                let is_subject = *package == name;
                let dependencies: Vec<Value> =
                    is_subject.then(|| json!({ "name": dependency, "kind": kind })).into_iter().collect();
                json!({ "name": package, "dependencies": dependencies })
            })
            .collect();
        check_edges(&packages, edges).join("; ")
    }

    #[test]
    fn the_list_is_exact() {
        let edge = "isomer-plan -> isomer-manifest\n";
        assert_eq!(found("isomer-plan", "isomer-manifest", None, edge), "");
        let missing =
            "crate `isomer-plan` must not depend on `isomer-manifest`: xtask/layers.txt does not list this dependency";
        assert_eq!(found("isomer-plan", "isomer-manifest", None, "# nothing\n"), missing);
        assert_eq!(found("isomer-plan", "isomer-manifest", Some("dev"), ""), "");
        assert!(found("isomer-plan", "serde", None, edge).contains("there is no such dependency: remove the line"));
        assert!(found("isomer-plan", "isomer-manifest", None, &edge.repeat(2)).contains("twice"));
        assert!(found("isomer-plan", "serde", None, "isomer-plan\n").contains("is not `CRATE -> CRATE`"));
    }

    #[test]
    fn third_party_crates_in_the_list_are_restricted_and_others_are_free() {
        assert_eq!(found("isomer-front", "hyper", None, "isomer-front -> hyper\n"), "");
        let found_in_plan = found("isomer-plan", "hyper", None, "isomer-front -> hyper\n");
        assert!(found_in_plan.contains("`isomer-plan` must not depend on `hyper`"), "{found_in_plan}");
        assert_eq!(found("isomer-plan", "serde", None, ""), "");
    }

    #[test]
    fn a_crate_reaches_what_its_dependencies_reach() {
        let edges = BTreeSet::from([("a", "b"), ("b", "c"), ("d", "c")]);
        assert!(reaches(&edges, "a", "c") && reaches(&edges, "a", "b") && !reaches(&edges, "d", "b"));
    }

    #[test]
    fn a_pure_crate_with_an_impure_dependency_is_a_problem() {
        assert_eq!(
            found("isomer-plan", "tokio", Some("build"), ""),
            "crate `isomer-plan` is pure and must not depend on `tokio`"
        );
    }
}
