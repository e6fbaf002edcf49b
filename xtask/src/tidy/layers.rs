//! Layers: which crate may depend on which. ARCHITECTURE.md gives the reasons; this checks `layers.txt`, which lists every edge.
//!
//! The list is exact: a dependency that is not listed is a problem, and so is a line without its dependency. An upper bound was
//! rejected: it allowed edges that did not exist, so that the list said less than the crates' `Cargo.toml`.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::project::Project;

/// The edges, `crate -> crate`, one a line. If an edge leads to a third-party crate, only crates with such an edge may
/// depend on it.
const EDGES: &str = "xtask/layers.txt";

/// Crates that are pure: no asynchronous runtime, no engine, no clock and no file that was not passed in.
const PURE: &[&str] = &[
    "isomer-bench-workload",
    "isomer-diagnostics",
    "isomer-display",
    "isomer-ids",
    "isomer-manifest",
    "isomer-plan",
    "isomer-wire",
];
/// Crates that must not reach the engine, not even through others: `isomer plan`, `build` and `test` need nothing else.
const ENGINE_FREE: &[&str] = &["isomer-app-test", "isomer-project", "isomer-toolchain"];
const ENGINE: &str = "isomer-runtime";

const IMPURE: &[&str] = &["cap-std", "libc", "tempfile", "tokio", "tracing", "wasmtime"];

/// A dependency of the first crate on the second.
type Edge<'a> = (&'a str, &'a str);

/// Compares the workspace's packages with the list.
pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    Ok(check_edges(project.packages(), &project.read(EDGES)?))
}

/// As [`check`], with the packages of `cargo metadata --no-deps` and the text of the list.
fn check_edges(packages: &[Value], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed: BTreeSet<Edge<'_>> = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(" -> ") {
            Some(edge) if listed.insert(edge) => {}
            Some(_) => problems.push(format!("{EDGES}: `{line}` is there twice")),
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
                problems
                    .push(format!("crate `{name}` must not depend on `{dependency}`: {EDGES} does not list the edge"));
            }
            if PURE.contains(&name) && IMPURE.contains(&dependency) {
                problems.push(format!("crate `{name}` is pure and must not depend on `{dependency}`"));
            }
        }
    }
    let reaching = ENGINE_FREE.iter().filter(|name| reaches(&found, name, ENGINE));
    problems
        .extend(reaching.map(|name| format!("crate `{name}` must not depend on `{ENGINE}`, not even through others")));
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

/// Returns whether `from` depends on `goal`, itself or through others.
fn reaches(edges: &BTreeSet<Edge<'_>>, from: &str, goal: &str) -> bool {
    // Dependencies between crates have no cycles.
    edges.iter().filter(|(crate_name, _)| *crate_name == from).any(|(_, to)| *to == goal || reaches(edges, to, goal))
}

/// Returns the dependencies that a crate needs to be built and at run time. Tests may have any dependency.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = all.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
    counts.filter_map(|dependency| dependency["name"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The pure crates and one that is not, with one dependency of `name` on `dependency`.
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
            "crate `isomer-plan` must not depend on `isomer-manifest`: xtask/layers.txt does not list the edge";
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
    fn pure_crates_stay_pure() {
        assert_eq!(
            found("isomer-plan", "tokio", Some("build"), ""),
            "crate `isomer-plan` is pure and must not depend on `tokio`"
        );
    }
}
