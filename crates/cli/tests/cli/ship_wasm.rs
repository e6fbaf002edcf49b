//! Tests of `isomer ship wasm`: what it writes, and which apps it refuses. `crates/apps/tests/placement` tests that the
//! written files respond like apps on a node.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Workspace, get};

const HELLO: &str =
    "[app]\nname = \"small\"\nversion = \"0.1.0\"\n\n[components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n";

/// Lets the commands of a workspace use the compiled providers that all tests share.
fn share_providers(workspace: &Workspace) {
    let shared = isomer_test_guests::target_dir().join("providers");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::create_dir_all(workspace.path(".cache/isomer")).unwrap();
    std::os::unix::fs::symlink(shared, workspace.path(".cache/isomer/providers")).unwrap();
}

/// A process of `wasmtime serve`.
struct Wasmtime {
    process: Child,
    address: String,
}

impl Wasmtime {
    /// Runs the command that `isomer ship wasm` has printed, on a free port.
    fn start(workspace: &Workspace, command: &str) -> Self {
        let command = command.replace("wasmtime serve ", "exec wasmtime serve --addr 127.0.0.1:0 ");
        let mut process = Command::new("sh")
            .args(["-c", &command])
            .current_dir(workspace.path(""))
            .env("SHOP_KEY", "of the host")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = log.by_ref().find(|line| line.contains("Serving HTTP on http://"));
        let line = line.expect("`wasmtime` is installed by `cargo xtask setup`");
        std::thread::spawn(move || log.for_each(drop));
        let (_, address) = line.split_once("http://").unwrap();
        Self { process, address: address.trim_end_matches('/').to_owned() }
    }
}

impl Drop for Wasmtime {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The file runs on another host, with the printed command, and its data is there again after the host was killed.
#[test]
fn wasmtime_serves_the_file_with_the_printed_command() {
    let grants = "grants = { sql = [\"default\"], secrets = [\"key\"] }\n\n[secrets]\nkey = { env = \"SHOP_KEY\" }\n";
    let workspace = Workspace::with_manifest(&format!("{HELLO}{grants}"));
    workspace.guest("sql-probe", "hello.wasm");
    share_providers(&workspace);
    let shipped = workspace.run(&["ship", "wasm"]);
    let (_, command) = shipped.split_once("to run it: ").unwrap_or_else(|| panic!("{shipped}"));
    let host = Wasmtime::start(&workspace, command.lines().next().unwrap());
    for sql in ["CREATE%20TABLE%20t%20(v)", "INSERT%20INTO%20t%20VALUES%20('kept')"] {
        let (status, body) = get(&host.address, &format!("/execute?sql={sql}"));
        assert_eq!(status, 200, "{body}");
    }
    drop(host);
    let host = Wasmtime::start(&workspace, command.lines().next().unwrap());
    let (status, body) = get(&host.address, "/query?sql=SELECT%20v%20FROM%20t");
    assert!(status == 200 && body.contains("kept"), "{status} {body}");
}

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

/// The printed command serves the file as it is: it creates the folder, and names the variables of the secrets.
#[test]
fn the_command_has_what_the_file_needs() {
    let secret = format!("{HELLO}grants = {{ secrets = [\"key\"] }}\n\n[secrets]\nkey = {{ env = \"SHOP_KEY\" }}\n");
    let workspace = Workspace::with_manifest(&format!("{secret}other = {{ env = \"NOT_GRANTED\" }}\n"));
    workspace.guest("secret-probe", "hello.wasm");
    share_providers(&workspace);
    let shipped = workspace.run(&["ship", "wasm"]);
    assert!(shipped.starts_with("exit code: 0"), "{shipped}");
    assert!(shipped.contains(" --env SHOP_KEY small.wasm"), "{shipped}");
    let workspace = Workspace::with_manifest(&format!("{HELLO}grants = {{ kv = [\"default\"] }}\n"));
    workspace.guest("kv-probe", "hello.wasm");
    share_providers(&workspace);
    // A file with the name of a temporary file is the user's.
    workspace.write("small.wasm.new", "of the user");
    let shipped = workspace.run(&["ship", "wasm"]);
    assert!(shipped.contains("mkdir -p small-data && wasmtime serve "), "{shipped}");
    assert!(shipped.contains(" --dir small-data::/data small.wasm"), "{shipped}");
    assert_eq!(std::fs::read(workspace.path("small.wasm.new")).unwrap(), b"of the user");
    std::fs::create_dir(workspace.path("folder")).unwrap();
    let refused = workspace.run(&["ship", "wasm", "-o", "folder"]);
    assert!(refused.starts_with("exit code: 2") && refused.contains("a folder has this name"), "{refused}");
}

#[test]
fn values_of_this_machine_are_not_shipped() {
    let workspace = Workspace::with_manifest(&format!("{HELLO}grants = {{ config = {{ WHO = \"all\" }} }}\n"));
    workspace.guest("env-print", "hello.wasm");
    share_providers(&workspace);
    workspace.write(".env", "WHO=me-at-home\n");
    let shipped = workspace.run(&["ship", "wasm"]);
    assert!(shipped.starts_with("exit code: 0"), "{shipped}");
    assert!(shipped.contains(".env has values for `WHO`, which are not used"), "{shipped}");
    let bytes = std::fs::read(workspace.path("small.wasm")).unwrap();
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("all") && !contains("me-at-home"));
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
