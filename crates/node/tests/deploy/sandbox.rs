//! Tests that an attacker who controls a child process of the compiler can reach nothing. A test program applies each
//! layer of the sandbox by itself, and then all layers together, as the child process does. Then it tries to escape.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use isomer_node::compiler::sandbox::{Confinement, Layer};
use isomer_node::compiler::{ChildLimits, Compilers};
use serde::Deserialize;

use crate::{PROGRAM, compiler};

#[derive(Deserialize)]
struct Report {
    confinement: Confinement,
    tried: BTreeMap<String, Option<String>>,
}

const FILES: [&str; 6] = [
    "read the token",
    "read the state",
    "read the key of compiled code",
    "list compiled code",
    "write compiled code",
    "remove a file",
];

const NODE: [&str; 3] = ["look into the node's memory", "trace the node", "read the node's memory by a call"];

/// Runs the program that tries to escape from `layers`, and returns its report. To simulate a leaked descriptor, the
/// program inherits an open descriptor of the token file.
fn probe(dir: &Path, port: u16, layers: &[Layer]) -> Report {
    let mut command = Command::new("/bin/sh");
    // The shell opens the descriptor 9, which the program inherits.
    let script = r#"exec 9<"$1"; shift; exec "$@""#;
    command.args(["-c", script, "sh"]).arg(dir.join("admin.token")).arg(PROGRAM).arg("probe");
    command.arg(serde_json::to_string(layers).unwrap()).arg(dir).arg(port.to_string());
    let output = command.arg(std::process::id().to_string()).env_clear().stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{layers:?}: {} {stderr}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_child_reaches_no_file_no_network_and_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for name in ["admin.token", "state.redb", "cache.key", "removable"] {
        fs::write(dir.join(name), "secret").unwrap();
    }
    fs::create_dir(dir.join("cache")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _admin = UnixListener::bind(dir.join("admin.sock")).unwrap();

    // Without any layer, the attempts must succeed.
    let open = probe(dir, port, &[]).tried;
    let network = ["connect over TCP", "connect over a Unix socket", "send over UDP"];
    let programs = ["start a program", "fork", "map executable memory", "make memory executable"];
    for what in FILES.iter().chain(&network).chain(&programs) {
        assert_eq!(open[*what], None, "{what}, without a sandbox");
    }
    assert!(open["read what was left open"].is_some(), "descriptors are closed first");
    fs::write(dir.join("removable"), "").unwrap();
    fs::remove_file(dir.join("cache/written")).unwrap();

    let all_but = |passed: &[&str]| {
        let names = open.keys().map(String::as_str);
        names.filter(|name| !passed.contains(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    let named = |names: &[&[&str]]| names.concat().iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (layers, kept_out) in [
        (vec![Layer::Namespaces], named(&[&FILES, &NODE, &network, &["start a program"]])),
        (vec![Layer::Landlock], named(&[&FILES, &NODE, &["connect over TCP", "start a program"]])),
        (vec![Layer::Seccomp], all_but(&[])),
        (Layer::ALL.to_vec(), all_but(&[])),
    ] {
        let Report { confinement, tried } = probe(dir, port, &layers);
        for layer in &layers {
            assert!(confinement.held.contains_key(layer) || confinement.missing.contains_key(layer), "{confinement}");
        }
        let is_partial = confinement.held.values().any(|what| what.contains("; not "));
        if !confinement.missing.is_empty() || is_partial {
            // Print the layers that the system does not support. If the environment requires all layers, a missing
            // layer is a failure.
            eprintln!("NOT CHECKED, because this system does not support all layers: {confinement}");
            assert!(std::env::var_os("ISOMER_TEST_SANDBOX_REQUIRED").is_none(), "{confinement}");
            if layers.len() == 1 {
                continue;
            }
        }
        for what in kept_out {
            assert!(tried[&what].is_some(), "{what}, with {confinement}");
        }
    }
    assert!(dir.join("removable").exists() && !dir.join("cache/written").exists());
}

#[tokio::test]
async fn a_child_reports_its_confinement() {
    let compilers = Compilers::new(compiler(ChildLimits::default()));
    let confinement = compilers.confinement().await.unwrap();
    assert_eq!(confinement.held.len() + confinement.missing.len(), Layer::ALL.len(), "{confinement}");
    assert_eq!(compilers.started(), 0, "the child compiles nothing");
}
