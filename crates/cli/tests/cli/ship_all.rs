//! Tests of `isomer ship all`: the files of a release, its index and its signature.

use std::fs;

use serde_json::Value;

use crate::support::Workspace;

/// The runtime of the tests: the program itself, which needs shared libraries.
const BASE: &str = env!("CARGO_BIN_EXE_isomer");

const HELLO: &str =
    "[app]\nname = \"small\"\nversion = \"0.1.0\"\n\n[components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n";

fn json(workspace: &Workspace, arguments: &[&str]) -> Value {
    let output = workspace.command(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(workspace: &Workspace, arguments: &[&str]) -> String {
    let output = workspace.command(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Returns the value of `key` of each file in an index.
fn each<'a>(index: &'a Value, key: &str) -> Vec<&'a str> {
    index["files"].as_array().unwrap().iter().map(|file| file[key].as_str().unwrap()).collect()
}

#[test]
fn a_release_has_all_forms_under_one_signature() {
    let workspace = Workspace::with_manifest(HELLO);
    workspace.guest("http-hello", "hello.wasm");
    workspace.command(&["keys", "generate", "release"]).output().unwrap();
    // `--all` is another name of the command.
    let arguments = ["ship", "--all", "-o", "out", "--base", BASE, "--sign", "release.key", "--json"];
    workspace.warm_for(&arguments);
    let shipped = json(&workspace, &arguments);
    let index: Value = serde_json::from_slice(&fs::read(workspace.path("out/release.json")).unwrap()).unwrap();
    assert_eq!(shipped["index"], index);
    assert_eq!(each(&index, "form"), ["archive", "program", "unit", "wasm"]);
    assert_eq!(each(&index, "file"), ["small-0.1.0.tar", "small-0.1.0", "isomer-small.service", "small-0.1.0.wasm"]);
    assert_eq!(index["left_out"][0]["form"], "image", "the runtime of the tests needs shared libraries");
    // The artifact is the one that a registry would have, and the archive is signed too.
    let verified = json(&workspace, &["verify", "out/small-0.1.0.tar", "--key", "release.pub", "--json"]);
    assert_eq!(verified["digest"], format!("sha256:{}", index["artifact"].as_str().unwrap()));
    let whole = json(&workspace, &["verify", "out", "--key", "release.pub", "--json"]);
    assert_eq!((&whole["digest"], &whole["files"]), (&verified["digest"], &index["files"]));
    // The same app gives the same release.
    let again = ["ship", "all", "-o", "again", "--base", BASE, "--json", "--without", "wasm"];
    let again = json(&workspace, &again);
    let without_archive =
        |index: &Value| each(index, "digest")[1..3].iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(without_archive(&again["index"]), without_archive(&index));
    assert_eq!(again["signed_by"], Value::Null);
    let unsigned = refused(&workspace, &["verify", "again", "--key", "release.pub"]);
    assert!(unsigned.contains("is not signed") && unsigned.contains("isomer ship all --sign KEY"), "{unsigned}");
}

#[test]
fn altered_releases_are_refused() {
    let workspace = Workspace::with_manifest(HELLO);
    workspace.guest("http-hello", "hello.wasm");
    for name in ["release", "other"] {
        workspace.command(&["keys", "generate", name]).output().unwrap();
    }
    json(&workspace, &["ship", "all", "-o", "out", "--without", "program", "--sign", "release.key", "--json"]);
    let verify = |key: &'static str| ["verify", "out", "--key", key];
    let foreign = refused(&workspace, &verify("other.pub"));
    assert!(foreign.contains("none of the keys has signed the release in `out`"), "{foreign}");
    let wasm = workspace.path("out/small-0.1.0.wasm");
    let mut bytes = fs::read(&wasm).unwrap();
    bytes.push(0);
    fs::write(&wasm, &bytes).unwrap();
    let changed = refused(&workspace, &verify("release.pub"));
    assert!(changed.contains("`small-0.1.0.wasm` is not the file that was released"), "{changed}");
    let index = fs::read_to_string(workspace.path("out/release.json")).unwrap();
    fs::write(workspace.path("out/release.json"), index.replace("small-0.1.0.wasm", "small-0.1.0.tar")).unwrap();
    let altered = refused(&workspace, &verify("release.pub"));
    assert!(altered.contains("none of the keys has signed"), "{altered}");
}
