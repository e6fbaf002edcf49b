//! Layers: which crate may know which. ARCHITECTURE.md says why; this proves it.

use serde_json::Value;

/// A crate and the crates of this project that it may depend on, itself or through others. A crate that is not listed here
/// does not belong to the project yet: add it together with its place in ARCHITECTURE.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("isomer-manifest", &["isomer-display"]),
    ("isomer-wit", &[]),
    ("isomer-wire", &[]),
    ("isomer-api", &[]),
    ("isomer-display", &[]),
    ("isomer-transport", &[]),
    ("isomer-sqlite-heap", &[]),
    ("isomer-telemetry", &[]),
    ("isomer-admin", &["isomer-api", "isomer-disk", "isomer-display", "isomer-transport"]),
    ("isomer-disk", &["isomer-display"]),
    ("isomer-state", &["isomer-api", "isomer-disk", "isomer-display"]),
    ("isomer-link", &["isomer-display", "isomer-telemetry", "isomer-transport", "isomer-wire"]),
    ("isomer-plan", &["isomer-display", "isomer-manifest", "isomer-wire"]),
    ("isomer-toolchain", &["isomer-display", "isomer-manifest"]),
    ("isomer-seam", &["isomer-display", "isomer-manifest", "isomer-plan", "isomer-wire", "isomer-wit"]),
    (
        "isomer-runtime",
        &[
            "isomer-api",
            "isomer-disk",
            "isomer-display",
            "isomer-manifest",
            "isomer-plan",
            "isomer-telemetry",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer-capabilities",
        &[
            "isomer-api",
            "isomer-disk",
            "isomer-display",
            "isomer-manifest",
            "isomer-plan",
            "isomer-wire",
            "isomer-wit",
            "isomer-runtime",
            "isomer-seam",
            "isomer-sqlite-heap",
            "isomer-telemetry",
        ],
    ),
    ("isomer-observe", &["isomer-api", "isomer-display", "isomer-telemetry"]),
    (
        "isomer-front",
        &[
            "isomer-api",
            "isomer-disk",
            "isomer-display",
            "isomer-manifest",
            "isomer-plan",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-runtime",
            "isomer-seam",
            "isomer-observe",
            "isomer-telemetry",
        ],
    ),
    (
        "isomer-node",
        &[
            "isomer-admin",
            "isomer-api",
            "isomer-capabilities",
            "isomer-disk",
            "isomer-display",
            "isomer-front",
            "isomer-link",
            "isomer-manifest",
            "isomer-observe",
            "isomer-plan",
            "isomer-runtime",
            "isomer-seam",
            "isomer-sqlite-heap",
            "isomer-state",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-telemetry",
        ],
    ),
    ("isomer-console", &["isomer-display", "isomer-manifest"]),
    (
        "isomer-project",
        &[
            "isomer-console",
            "isomer-display",
            "isomer-manifest",
            "isomer-plan",
            "isomer-seam",
            "isomer-toolchain",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer-app-test",
        &[
            "isomer-console",
            "isomer-display",
            "isomer-manifest",
            "isomer-plan",
            "isomer-project",
            "isomer-seam",
            "isomer-toolchain",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer-supervisor",
        &[
            "isomer-api",
            "isomer-disk",
            "isomer-display",
            "isomer-manifest",
            "isomer-observe",
            "isomer-plan",
            "isomer-runtime",
            "isomer-seam",
            "isomer-telemetry",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer-serve",
        &[
            "isomer-admin",
            "isomer-api",
            "isomer-capabilities",
            "isomer-console",
            "isomer-disk",
            "isomer-display",
            "isomer-front",
            "isomer-link",
            "isomer-manifest",
            "isomer-node",
            "isomer-observe",
            "isomer-plan",
            "isomer-project",
            "isomer-runtime",
            "isomer-seam",
            "isomer-sqlite-heap",
            "isomer-state",
            "isomer-supervisor",
            "isomer-telemetry",
            "isomer-toolchain",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer-dev",
        &[
            "isomer-admin",
            "isomer-api",
            "isomer-capabilities",
            "isomer-console",
            "isomer-disk",
            "isomer-display",
            "isomer-front",
            "isomer-link",
            "isomer-manifest",
            "isomer-node",
            "isomer-observe",
            "isomer-plan",
            "isomer-project",
            "isomer-runtime",
            "isomer-seam",
            "isomer-serve",
            "isomer-sqlite-heap",
            "isomer-state",
            "isomer-supervisor",
            "isomer-telemetry",
            "isomer-toolchain",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
        ],
    ),
    (
        "isomer",
        &[
            "isomer-admin",
            "isomer-api",
            "isomer-app-test",
            "isomer-capabilities",
            "isomer-console",
            "isomer-dev",
            "isomer-disk",
            "isomer-display",
            "isomer-front",
            "isomer-link",
            "isomer-manifest",
            "isomer-node",
            "isomer-observe",
            "isomer-plan",
            "isomer-project",
            "isomer-runtime",
            "isomer-seam",
            "isomer-serve",
            "isomer-sqlite-heap",
            "isomer-state",
            "isomer-supervisor",
            "isomer-toolchain",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-telemetry",
        ],
    ),
    ("isomer-bench-workload", &[]),
    (
        "isomer-bench-programs",
        &[
            "isomer-display",
            "isomer-link",
            "isomer-manifest",
            "isomer-plan",
            "isomer-seam",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-telemetry",
        ],
    ),
    (
        "isomer-bench-grpc",
        &[
            "isomer-bench-programs",
            "isomer-bench-workload",
            "isomer-display",
            "isomer-link",
            "isomer-manifest",
            "isomer-plan",
            "isomer-seam",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-telemetry",
        ],
    ),
    (
        "isomer-bench-dynamic",
        &[
            "isomer-bench-programs",
            "isomer-display",
            "isomer-link",
            "isomer-manifest",
            "isomer-plan",
            "isomer-seam",
            "isomer-transport",
            "isomer-wire",
            "isomer-wit",
            "isomer-telemetry",
        ],
    ),
    ("isomer-test-guests", &["isomer-display", "isomer-manifest", "isomer-toolchain"]),
    (
        "isomer-bench-node",
        &["isomer-api", "isomer-display", "isomer-manifest", "isomer-test-guests", "isomer-toolchain"],
    ),
    (
        "xtask",
        &[
            "isomer-api",
            "isomer-bench-node",
            "isomer-bench-workload",
            "isomer-display",
            "isomer-manifest",
            "isomer-test-guests",
            "isomer-toolchain",
        ],
    ),
];

/// Crates of others that only these crates may name, so that a change of one is a change of one place.
const NAMED_ONLY_BY: &[(&str, &[&str])] = &[
    ("h2", &["isomer-link"]),
    ("hyper", &["isomer-admin", "isomer-front", "isomer-capabilities", "isomer-bench-programs"]),
    ("hyper-util", &["isomer-admin", "isomer-front", "isomer-capabilities", "isomer-bench-programs"]),
    ("tokio-rustls", &["isomer-front", "isomer-capabilities", "isomer-link"]),
    ("rustls", &["isomer-front", "isomer-capabilities", "isomer-link"]),
    ("tonic", &["isomer-bench-grpc"]),
    ("redb", &["isomer-capabilities", "isomer-disk", "isomer-state"]),
    ("rusqlite", &["isomer-capabilities", "isomer-sqlite-heap"]),
    ("wasmtime", &["isomer-runtime", "isomer-capabilities", "isomer-node", "isomer-bench-dynamic"]),
    ("wasmtime-wasi", &["isomer-runtime", "isomer-capabilities", "isomer-node", "isomer-bench-dynamic"]),
    ("wasmtime-wasi-http", &["isomer-runtime", "isomer-capabilities", "isomer-node"]),
    ("wasm-encoder", &["isomer-seam", "isomer-bench-programs"]),
    ("clap", &["isomer"]),
    ("notify", &["isomer-dev"]),
    (
        "anyhow",
        &[
            "isomer",
            "isomer-app-test",
            "isomer-bench-node",
            "isomer-console",
            "isomer-dev",
            "isomer-project",
            "isomer-runtime",
            "isomer-serve",
            "xtask",
        ],
    ),
];

/// Crates that are pure: no asynchronous runtime, no engine, no clock or file behind their back.
const PURE: &[&str] = &["isomer-display", "isomer-manifest", "isomer-plan", "isomer-wire", "isomer-bench-workload"];
const IMPURE: &[&str] = &["tokio", "wasmtime", "cap-std", "tempfile", "libc", "tracing"];

/// The project's packages as `cargo metadata --no-deps` gives them.
pub(super) fn check(packages: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(listed, _)| *listed == name) else {
            problems.push(format!("crate `{name}` has no layer; give it one in xtask/src/tidy/layers.rs"));
            continue;
        };
        for dependency in dependencies(package) {
            let is_ours = LAYERS.iter().any(|(ours, _)| *ours == dependency);
            if is_ours && !allowed.contains(&dependency) {
                problems.push(format!("crate `{name}` must not know `{dependency}`"));
            }
            let owners = NAMED_ONLY_BY.iter().find(|(named, _)| *named == dependency).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&name)) {
                let owners = owners.unwrap_or_default().join("`, `");
                problems.push(format!("crate `{name}` must not name `{dependency}`: only `{owners}` do"));
            }
            if PURE.contains(&name) && IMPURE.contains(&dependency) {
                problems.push(format!("crate `{name}` is pure and must not depend on `{dependency}`"));
            }
        }
    }
    problems
}

/// What a crate needs at run time or to be built. Tests may use what they like.
fn dependencies(package: &Value) -> Vec<&str> {
    let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = all.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
    counts.filter_map(|dependency| dependency["name"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Value {
        json!({ "name": name, "dependencies": [{ "name": dependency, "kind": kind }] })
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let found = |name, dependency| check(&[package(name, dependency, None)]).join("; ");
        assert_eq!(found("isomer-plan", "isomer-manifest"), "");
        assert_eq!(found("isomer-manifest", "isomer-plan"), "crate `isomer-manifest` must not know `isomer-plan`");
        assert!(found("isomer-runtime", "hyper").contains("must not name `hyper`"));
        assert!(found("isomer-plan", "tokio").contains("is pure"));
        assert!(found("stranger", "serde").contains("has no layer"));
        assert_eq!(check(&[package("isomer-runtime", "hyper", Some("dev"))]), Vec::<String>::new());
    }

    /// What a crate may know, those may know that may know it: else the list would say less than it seems to.
    #[test]
    fn the_layers_are_closed() {
        let allowed = |name: &str| LAYERS.iter().find(|(listed, _)| *listed == name).expect("listed").1;
        for (name, below) in LAYERS {
            for lower in *below {
                for lowest in allowed(lower) {
                    assert!(below.contains(lowest), "`{name}` may know `{lower}`, which may know `{lowest}`");
                }
            }
        }
    }
}
