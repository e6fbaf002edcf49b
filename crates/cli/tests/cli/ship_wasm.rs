//! Tests of `isomer ship wasm`: what it writes, and which apps it refuses. `crates/apps/tests/placement` tests that the
//! written files respond like apps on a node.

use crate::support::Workspace;

const HELLO: &str =
    "[app]\nname = \"small\"\nversion = \"0.1.0\"\n\n[components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n";

#[test]
fn a_shipped_file_is_a_component_with_standard_imports() {
    let workspace = Workspace::with_manifest(HELLO);
    workspace.guest("http-hello", "hello.wasm");
    let output = workspace.command(&["ship", "wasm", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["file"], "small.wasm");
    let imports: Vec<_> = result["imports"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(!imports.is_empty() && imports.iter().all(|import| import.starts_with("wasi:")), "{imports:?}");
    assert!(result["exports"][0].as_str().unwrap().starts_with("wasi:http/handler@0.3"), "{result}");
    let first = std::fs::read(workspace.path("small.wasm")).unwrap();
    assert_eq!(result["bytes"], first.len());
    // The same inputs give the same file.
    let output = workspace.command(&["ship", "wasm", "-o", "other.wasm"]).output().unwrap();
    assert!(output.status.success());
    assert!(std::fs::read(workspace.path("other.wasm")).unwrap() == first, "two runs write different files");
    // The file is an ordinary component, which `isomer run` serves without a manifest.
    let (whole, shipped) = (workspace.serve(&["run"]), workspace.serve(&["run", "small.wasm"]));
    assert_eq!(shipped.get("/"), whole.get("/"));
}

#[test]
fn the_explanation_names_each_import() {
    let workspace = Workspace::with_manifest(HELLO);
    workspace.guest("kv-probe", "hello.wasm");
    let output = workspace.command(&["ship", "wasm", "--explain"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (inside, host) = text.split_once("imported from the host:").unwrap_or_else(|| panic!("{text}"));
    assert!(inside.contains("wasi:keyvalue/store@0.2.0-draft2  (hello)"), "{text}");
    assert!(host.contains("wasi:http/types@0.3") && !host.contains("wasi:keyvalue"), "{text}");
    assert!(!workspace.path("small.wasm").exists());
}

#[test]
fn apps_that_cannot_be_one_file_are_refused() {
    let two = format!("{HELLO}\n[components.other]\nwasm = \"hello.wasm\"\nroutes = [\"/other\"]\n");
    let workspace = Workspace::with_manifest(&two);
    workspace.guest("http-hello", "hello.wasm");
    let refused = workspace.run(&["ship", "wasm"]);
    assert!(refused.contains("`hello`, `other` have routes, but a Wasm file exports one HTTP handler"), "{refused}");
    assert!(refused.contains("hint: give routes to one component"), "{refused}");

    let secret = format!("{HELLO}grants = {{ secrets = [\"key\"] }}\n\n[secrets]\nkey = {{ file = \"key.txt\" }}\n");
    let workspace = Workspace::with_manifest(&secret);
    workspace.guest("secret-probe", "hello.wasm");
    let refused = workspace.run(&["ship", "wasm"]);
    assert!(refused.contains("the secret `key` comes from the file `key.txt`"), "{refused}");
    assert!(refused.contains("write `key = { env = \"NAME\" }`"), "{refused}");
    assert!(!workspace.path("small.wasm").exists());
}
