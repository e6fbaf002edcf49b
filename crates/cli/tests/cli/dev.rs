//! `isomer dev`: changes take over, mistakes do not, and nobody is turned away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Workspace, get};

const MANIFEST: &str = "[app]\nname = \"dev\"\nversion = \"0.1.0\"\n\n\
    [components.hello]\nwasm = \"hello.wasm\"\nroutes = [\"/...\"]\n";

fn workspace() -> Workspace {
    let workspace = Workspace::with_manifest(MANIFEST);
    workspace.guest("http-hello", "hello.wasm");
    workspace
}

#[test]
fn a_change_takes_over_and_no_request_is_dropped() {
    let workspace = workspace();
    let mut server = workspace.serve(&["dev"]);
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (server.address().to_owned(), stop.clone());
    let visitor = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let (status, body) = get(&address, "/");
            assert_eq!(status, 200, "{body}");
            if seen.last() != Some(&body) {
                seen.push(body);
            }
        }
        seen
    });
    workspace.guest("http-hello-p2", "hello.wasm");
    let replaced = server.event();
    assert_eq!(replaced["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.2\n");
    stop.store(true, Ordering::Relaxed);
    let seen = visitor.join().unwrap();
    // The old one until the new one, and never back.
    assert!(seen.len() <= 2 && seen.iter().all(|body| body.starts_with("hello from WASI 0.")), "{seen:?}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_mistake_is_shown_and_the_last_revision_goes_on() {
    let workspace = workspace();
    let mut server = workspace.serve(&["dev"]);
    workspace.write("hello.wasm", "not a component");
    server.wait_for_log("this is not WebAssembly");
    server.wait_for_log("the last revision goes on serving");
    assert_eq!(server.get("/").1, "hello from WASI 0.3\n");
    workspace.write("isomer.toml", format!("{MANIFEST}rotes = []\n"));
    server.wait_for_log("rotes");
    assert_eq!(server.get("/").1, "hello from WASI 0.3\n");
    workspace.guest("http-hello-p2", "hello.wasm");
    workspace.write("isomer.toml", MANIFEST);
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get("/").1, "hello from WASI 0.2\n");
}

#[test]
fn stores_go_on_from_revision_to_revision() {
    let manifest = format!("{MANIFEST}grants = {{ kv = [\"things\"], config = {{ ROUND = \"1\" }} }}\n");
    let workspace = Workspace::with_manifest(&manifest);
    workspace.guest("kv-probe", "hello.wasm");
    let mut server = workspace.serve(&["dev"]);
    let increment = "/increment?store=things&key=k&delta=5";
    assert_eq!(server.get(increment), (200, "5\n".to_owned()));
    workspace.write("isomer.toml", manifest.replace("\"1\"", "\"2\""));
    assert_eq!(server.event()["event"], "replaced");
    assert_eq!(server.get(increment), (200, "10\n".to_owned()));
}
